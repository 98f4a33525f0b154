"""RAVDESS (Livingstone & Russo, 2018): 1440 spoken clips of 24 actors, two sentences, eight emotions."""

from __future__ import annotations

import re
from pathlib import Path

from emonet.clips import Corpus, Split
from emonet.corpora.acted.format import ActedFormat, Label, UnknownNameError, open_acted
from emonet.runtime import Progress, ignore
from emonet.targets import EMOTIONS, TargetSpec

# modality-channel-emotion-intensity-statement-repetition-actor
_NAME = re.compile(r"(0[1-3])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(0[1-9]|1\d|2[0-4])")
_CLASSES: dict[str, str | None] = {  # in the order of their numbers, 01 to 08
    "neutral": None,
    "calm": "contentment",
    "happy": "elation",
    "sad": "sadness",
    "angry": "anger",
    "fearful": "fear",
    "disgust": "disgust",
    "surprised": "astonishment",
}
_LABELS = {f"{number:02d}": label for number, label in enumerate(_CLASSES, start=1)}
_SCORES = {"01": 2.0, "02": 4.0}  # acted with normal or strong intensity


def read_name(stem: str) -> Label:
    """What a name such as `03-01-06-01-02-01-12` says.

    Raises:
        UnknownNameError: if it is not the name of a spoken, audio-only RAVDESS clip.
    """
    match = _NAME.fullmatch(stem)
    if match is None:
        raise UnknownNameError("not a RAVDESS name (such as 03-01-06-01-02-01-12)")
    modality, channel, emotion, intensity, _, _, actor = match.groups()
    if modality != "03":
        raise UnknownNameError(f"modality {modality} is video; only audio (03) is used")
    if channel != "01":
        raise UnknownNameError(f"vocal channel {channel} is song; only speech (01) is used")
    return Label(f"actor-{actor}", _split(int(actor)), _LABELS[emotion], _SCORES[intensity])


def _split(actor: int) -> Split:
    """By actor number: men (odd) and women (even) alternate, so every split holds both."""
    if actor >= 19:
        return "test"
    return "validation" if actor >= 16 else "train"


RAVDESS = ActedFormat(
    kind="ravdess",
    language="en",
    classes=_CLASSES,
    read_name=read_name,
    note="RAVDESS: acted speech of 24 actors, CC BY-NC-SA 4.0 (no commercial use).",
    source=(
        "download Audio_Speech_Actors_01-24.zip from https://zenodo.org/records/1188976 (CC BY-NC-SA 4.0), "
        "unpack it, and name the folder: ravdess:PATH"
    ),
)


def open_ravdess(folder: Path, *, targets: TargetSpec = EMOTIONS, progress: Progress = ignore) -> Corpus:
    """Open RAVDESS: actors 19 to 24 are the test split, 16 to 18 validation, 1 to 15 training.

    Args:
        folder: where the clips are, at any depth.
        targets: what the corpus is for; a prototype that is none of them is left out.
        progress: told about clips.

    Raises:
        RequestError: if the folder is missing, holds no audio or no usable clip, or holds a clip twice.
    """
    return open_acted(RAVDESS, folder, targets=targets, progress=progress)
