"""nEMO (Christop, 2024): 4481 Polish clips of nine actors, about 90 sentences, six emotions."""

from __future__ import annotations

import re
from pathlib import Path

from emonet.clips import Corpus, Split
from emonet.corpora.acted.format import ActedFormat, Label, UnknownNameError, known, open_acted
from emonet.runtime import Progress, ignore
from emonet.targets import EMOTIONS, TargetSpec

_NAME = re.compile(r"([A-Z]{2}\d)_([a-z]+)_(\d+)")  # speaker, emotion, number: EB0_anger_12
_CLASSES: dict[str, str | None] = {
    "anger": "anger",
    "fear": "fear",
    "happiness": "elation",
    "sadness": "sadness",
    "surprised": "astonishment",
    "neutral": None,
}
_SPLITS: dict[str, Split] = {
    **dict.fromkeys(("EB0", "IC0", "KS0", "MP0", "TP0"), "train"),  # MP0 recorded fewer clips, most of them neutral
    **dict.fromkeys(("KD0", "SM0"), "validation"),  # a woman and a man
    **dict.fromkeys(("MK0", "WR0"), "test"),  # a woman and a man
}
SCORE = 3.0
"""The score of the acted emotion: nEMO gives no intensity, so each counts as clearly expressed."""


def read_name(stem: str) -> Label:
    """What a name such as `EB0_anger_12` says.

    Raises:
        UnknownNameError: if it is not the name of an nEMO clip.
    """
    match = _NAME.fullmatch(stem)
    if match is None:
        raise UnknownNameError("not an nEMO name (such as EB0_anger_12)")
    speaker, emotion, _ = match.groups()
    split = known("speaker", speaker, _SPLITS)
    known("emotion", emotion, _CLASSES)
    return Label(f"speaker-{speaker}", split, emotion, SCORE)


NEMO = ActedFormat(
    kind="nemo",
    language="pl",
    classes=_CLASSES,
    read_name=read_name,
    note=(
        "nEMO: acted Polish speech of nine actors, CC BY-NC-SA 4.0 (no commercial use), without intensities: "
        f"the acted emotion scores {SCORE:g}."
    ),
    source=(
        "download the recordings of nEMO from https://huggingface.co/datasets/amu-cai/nEMO (CC BY-NC-SA 4.0), "
        "with their names (such as EB0_anger_12.wav), and name the folder: nemo:PATH"
    ),
)


def open_nemo(folder: Path, *, targets: TargetSpec = EMOTIONS, progress: Progress = ignore) -> Corpus:
    """Open nEMO: speakers MK0 and WR0 are the test split, KD0 and SM0 validation, the other five training.

    Args:
        folder: where the clips are, at any depth.
        targets: what the corpus is for; a prototype that is none of them is left out.
        progress: told about clips.

    Raises:
        RequestError: if the folder is missing, holds no audio or no usable clip, or holds a clip twice.
    """
    return open_acted(NEMO, folder, targets=targets, progress=progress)
