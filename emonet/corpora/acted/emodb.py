"""EmoDB (Burkhardt et al., 2005): 535 German clips of 10 speakers, ten sentences, seven emotions."""

from __future__ import annotations

import re
from pathlib import Path

from emonet.clips import Corpus, Split
from emonet.corpora.acted.format import ActedFormat, Label, UnknownNameError, known, open_acted
from emonet.runtime import Progress, ignore
from emonet.targets import EMOTIONS, TargetSpec

_NAME = re.compile(r"(\d\d)([ab]\d\d)([A-Z])([a-z])")  # speaker, text, emotion, take: 03a01Fa
_LABELS = {
    "W": "anger",  # Wut
    "L": "boredom",  # Langeweile
    "E": "disgust",  # Ekel
    "A": "fear",  # Angst
    "F": "happiness",  # Freude
    "T": "sadness",  # Trauer
    "N": "neutral",
}
_CLASSES: dict[str, str | None] = {
    "anger": "anger",
    "boredom": "emotional_numbness",  # one of that emotion's terms
    "disgust": "disgust",
    "fear": "fear",
    "happiness": "elation",
    "sadness": "sadness",
    "neutral": None,
}
_SPLITS: dict[str, Split] = {
    **dict.fromkeys(("03", "08", "09", "10", "11", "13"), "train"),
    **dict.fromkeys(("12", "14"), "validation"),  # a man and a woman
    **dict.fromkeys(("15", "16"), "test"),  # a man and a woman
}
SCORE = 3.0
"""The score of the acted emotion: EmoDB gives no intensity, so each counts as clearly expressed."""


def read_name(stem: str) -> Label:
    """What a name such as `03a01Fa` says.

    Raises:
        UnknownNameError: if it is not the name of an EmoDB clip.
    """
    match = _NAME.fullmatch(stem)
    if match is None:
        raise UnknownNameError("not an EmoDB name (such as 03a01Fa)")
    speaker, _, letter, _ = match.groups()
    split, label = known("speaker", speaker, _SPLITS), known("emotion letter", letter, _LABELS)
    return Label(f"speaker-{speaker}", split, label, SCORE)


EMODB = ActedFormat(
    kind="emodb",
    language="de",
    classes=_CLASSES,
    read_name=read_name,
    note=f"EmoDB: acted German speech of 10 speakers, without intensities: the acted emotion scores {SCORE:g}.",
    source="download EmoDB from http://emodb.bilderbar.info, unpack it, and name the folder: emodb:PATH",
)


def open_emodb(folder: Path, *, targets: TargetSpec = EMOTIONS, progress: Progress = ignore) -> Corpus:
    """Open EmoDB: speakers 15 and 16 are the test split, 12 and 14 validation, the other six training.

    Args:
        folder: where the clips are, at any depth.
        targets: what the corpus is for; a prototype that is none of them is left out.
        progress: told about clips.

    Raises:
        RequestError: if the folder is missing, holds no audio or no usable clip, or holds a clip twice.
    """
    return open_acted(EMODB, folder, targets=targets, progress=progress)
