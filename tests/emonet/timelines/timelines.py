"""Timelines made by hand."""

from __future__ import annotations

from typing import Any

from emonet.segments import Segment
from emonet.targets import PUBLISHED
from emonet.timelines import ScoredSegment, Timeline

SPEC = PUBLISHED.subset(("anger", "fear", "sadness", "valence"))


def scored(start: float, end: float, speaker: str = "", *, anger: float = 1.0, **fields: Any) -> ScoredSegment:
    segment = Segment(start, end, speaker, fields.pop("channel", None), fields.pop("text", ""))
    scores = {"anger": anger, "fear": 0.5, "sadness": 2 - anger, "valence": -1.0}
    return ScoredSegment(segment, scores, **fields)


def timeline(*segments: ScoredSegment, seconds: float = 10.0, **fields: Any) -> Timeline:
    return Timeline("a b.wav", seconds, "voice", SPEC, segments, **fields)
