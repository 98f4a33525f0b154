"""A segment: a part of a recording, with who speaks and what is said, if that is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

from emonet.errors import RequestError


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a recording; sorted by time.

    Args:
        start: in seconds from the recording's beginning.
        end: in seconds, behind the start.
        speaker: who speaks; empty where it is not known.
        channel: of the recording, from 0; None where channels are mixed.
        text: what is said, or the segment's label; empty without.

    Raises:
        RequestError: if times are not finite, or below 0, or not in order.
    """

    start: float
    end: float
    speaker: str = ""
    channel: int | None = None
    text: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and math.isfinite(self.end) and 0 <= self.start < self.end):
            raise RequestError(
                "this is no segment",
                expected="a start from 0 s, and an end behind it",
                found=f"{self.start:g} to {self.end:g} s",
            )

    def __lt__(self, other: Segment) -> bool:
        """Whether it comes before another one: by time, then by speaker, channel (all of them first) and text."""
        return self._rank < other._rank

    @property
    def _rank(self) -> tuple[float, float, str, int, str]:
        return self.start, self.end, self.speaker, -1 if self.channel is None else self.channel, self.text

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.start
