"""Segment metrics of emotion timelines: segments whose emotion was heard, and changes of emotion that were found.

EDER weighs seconds; these count events. Changes are matched one to one within a collar, as boundaries are in speaker
diarisation and music segmentation (mir_eval.segment.detection has 0.5 s).
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from emonet.targets import spelling

COLLAR = 0.5  # seconds by which a change may be told too early or too late
ROUNDED = 0.01  # seconds that are no gap, and no end behind the clip: times in tables are rounded


class _Interval(Protocol):
    """As `emonet.protocols.Interval`."""

    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...
    @property
    def emotion(self) -> str: ...


@dataclass(frozen=True)
class SegmentCounts:
    """What was found of the segments of one clip, and of the changes between them.

    Args:
        segments: that are given (count); neighbours of one emotion without a gap are one.
        right: of these, those whose emotion is the one that is predicted for the longest part of them (count).
        given: changes of emotion within the clip (count).
        predicted: changes that are told (count).
        matched: changes that are told within the collar of one that is given, one to one (count).
    """

    segments: int
    right: int
    given: int
    predicted: int
    matched: int


def segment_counts(
    given: Sequence[_Interval], predicted: Sequence[_Interval], *, collar: float = COLLAR
) -> SegmentCounts:
    """Count segments and changes; intervals that overlap are taken in order of their start, and a gap ends a segment.

    Args:
        given: what is right.
        predicted: what is judged.
        collar: by which a change may be told too early or too late (seconds).
    """
    right, told = _runs(given), _runs(predicted)
    truth, found = _changes(right), _changes(told)
    return SegmentCounts(
        segments=len(right),
        right=sum(_commonest(told, start, end) == name for start, end, name in right),
        given=len(truth),
        predicted=len(found),
        matched=_matched(truth, found, collar),
    )


def _runs(intervals: Sequence[_Interval]) -> list[tuple[float, float, str]]:
    """Start, end and emotion; neighbours of one emotion without a gap between them are one."""
    runs: list[tuple[float, float, str]] = []
    for start, end, name in sorted((one.start, one.end, spelling(one.emotion)) for one in intervals):
        if runs and runs[-1][2] == name and start <= runs[-1][1] + ROUNDED:
            runs[-1] = runs[-1][0], max(runs[-1][1], end), name
        else:
            runs.append((start, end, name))
    return runs


def _changes(runs: Sequence[tuple[float, float, str]]) -> list[float]:
    """When another emotion begins (seconds)."""
    return [start for (_, _, before), (start, _, name) in itertools.pairwise(runs) if name != before]


def _commonest(told: Sequence[tuple[float, float, str]], start: float, end: float) -> str | None:
    """What is predicted for the longest part of a span."""
    seconds: dict[str, float] = defaultdict(float)
    for begin, stop, name in told:
        seconds[name] += max(0.0, min(stop, end) - max(begin, start))
    longest = max(seconds, key=lambda name: seconds[name], default=None)
    return longest if longest is not None and seconds[longest] > 0 else None


def _matched(truth: Sequence[float], found: Sequence[float], collar: float) -> int:
    """Most pairs within the collar: both are in order, so each takes the first one that is free."""
    pairs, place = 0, 0
    for time in truth:
        while place < len(found) and found[place] < time - collar:
            place += 1
        if place < len(found) and found[place] <= time + collar:
            pairs, place = pairs + 1, place + 1
    return pairs
