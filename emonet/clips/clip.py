"""Clips: a recording, or a part of one, with speaker, split and scores; and those that could not be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from emonet.clips.audio import Audio

UNKNOWN = float("nan")  # seconds of a clip whose length nobody knows; one object, so that such clips are equal

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording, or a part of one, with what is known about it.

    Args:
        id: unique in its corpus, e.g. `ravdess/03-01-06-01-02-01-12`.
        audio: path of a file that libsndfile or FFmpeg reads, the encoded bytes of one, or where these are: in a tar, a
            Parquet file or an object store.
        speaker: who speaks, unique across corpora, e.g. `ravdess/actor-12`.
        split: `train`, `validation` or `test`; the clips of a speaker share one.
        language: ISO 639-1 code, e.g. `en`; `und` where unknown.
        scores: target id -> score; a target that nobody rated is absent.
        caption: a sentence about how the speaker feels, where the corpus has one.
        start: where the clip starts in the audio, in seconds; None is the beginning.
        end: where it ends, in seconds; None is the end of the audio.
        seconds: length of the clip in seconds (from the header, before the window cuts it).
        weight: how much the clip counts in the experts' training, 0 or more.
        weights: target id -> how much its score of this clip counts, times `weight`; 1 where absent.
        label: the clip's class as the corpus names it, e.g. `angry`; None where it has none.
    """

    id: str
    audio: Audio
    speaker: str
    split: Split
    language: str = "und"
    scores: Mapping[str, float] = field(default_factory=dict)
    caption: str | None = None
    start: float | None = None
    end: float | None = None
    seconds: float = UNKNOWN
    weight: float = 1.0
    weights: Mapping[str, float] = field(default_factory=dict)
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """A clip that could not be used, and why.

    Args:
        id: the clip's id, or its path where it has none.
        reason: one line, e.g. `0 bytes`.
    """

    id: str
    reason: str
