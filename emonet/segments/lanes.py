"""Tiers of segments that do not overlap, as TextGrid and ELAN have them."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from emonet.segments.segment import Segment


def lanes(segments: Iterable[Segment]) -> list[tuple[str, list[Segment]]]:
    """Speaker and segments of each tier: one for each speaker, and more where a speaker's segments overlap."""
    found: dict[str, _Tiers] = {}
    for one in sorted(segments):
        found.setdefault(one.speaker, _Tiers()).take(one)
    return [(speaker, tier) for speaker, tiers in found.items() for tier in tiers.lists]


@dataclass
class _Tiers:
    """A speaker's; each segment goes into the first one that is free, found in logarithmic time."""

    lists: list[list[Segment]] = field(default_factory=list)
    _busy: list[tuple[float, int]] = field(default_factory=list)  # until when, and which one; a heap
    _free: list[int] = field(default_factory=list)  # which ones; a heap

    def take(self, one: Segment) -> None:
        """One that does not begin before those that were taken."""
        while self._busy and self._busy[0][0] <= one.start:
            heapq.heappush(self._free, heapq.heappop(self._busy)[1])
        if self._free:
            tier = heapq.heappop(self._free)
        else:
            tier = len(self.lists)
            self.lists.append([])
        self.lists[tier].append(one)
        heapq.heappush(self._busy, (one.end, tier))
