"""Throughput of an extraction: clips per second, and in how much of the time its encoder has work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, final

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Speed:
    """What a run has done so far.

    Args:
        clips: done, readable or not (count).
        failed: of these (count).
        tflops: of the encoder while it ran (TFLOP/s).
        share: of the time since the first clip was ready, that in which the encoder computed (0 to 1).
        megabytes_per_second: written in that time (MB/s).
    """

    clips: int = 0
    failed: int = 0
    tflops: float = 0.0
    share: float = 0.0
    megabytes_per_second: float = 0.0

    @classmethod
    def joined(cls, speeds: Sequence[Speed]) -> Speed:
        """That of several processes at once: sums, and the mean of the shares."""
        return cls(
            clips=sum(speed.clips for speed in speeds),
            failed=sum(speed.failed for speed in speeds),
            tflops=sum((speed.tflops for speed in speeds), 0.0),
            share=sum((speed.share for speed in speeds), 0.0) / max(1, len(speeds)),
            megabytes_per_second=sum((speed.megabytes_per_second for speed in speeds), 0.0),
        )

    def note(self) -> str:
        """In a few words, for a progress bar; empty before there is anything to say."""
        if not self.tflops:
            return ""
        return f"{self.tflops:.3g} TFLOP/s, encoder {100 * self.share:.0f} %, {self.megabytes_per_second:.1f} MB/s"


@final
class Meter:
    """A stopwatch that runs while the encoder has work, and counters.

    Args:
        flops_per_clip: what the encoder computes for one clip, multiply-adds counted twice (FLOP).
        computed: seconds that it has computed, by a GPU's clock: there, passes wait for each other. None where nothing
            tells them: then the stopwatch does.
    """

    def __init__(self, flops_per_clip: float, computed: Callable[[], float | None] = lambda: None) -> None:
        self._flops_per_clip = flops_per_clip
        self._computed, self._before = computed, computed()
        self._clips = self._failed = self._written = 0
        self._busy = 0.0
        self._at_work = 0  # batches in the encoder
        self._first = self._mark = time.monotonic()

    def fed(self, batches: Iterable[T]) -> Iterator[T]:
        """Batches on their way to the encoder."""
        for batch in batches:
            self._turn(+1)
            yield batch

    def drained(self, states: Iterable[T]) -> Iterator[T]:
        """States on their way from the encoder."""
        for batch in states:
            self._turn(-1)
            yield batch

    def add(self, clips: int, *, failed: int) -> None:
        """Count the clips of a pass, and those of them that could not be read."""
        self._clips += clips
        self._failed += failed

    def wrote(self, size: int) -> None:
        """Count what was written, in bytes."""
        self._written += size

    def speed(self) -> Speed:
        """So far."""
        elapsed, computed = max(self._mark - self._first, 1e-9), self._computed()
        busy = self._busy if computed is None or self._before is None else computed - self._before
        return Speed(
            clips=self._clips,
            failed=self._failed,
            tflops=self._clips * self._flops_per_clip / max(busy, 1e-9) / 1e12,
            share=min(1.0, busy / elapsed),
            megabytes_per_second=self._written / elapsed / 1e6,
        )

    def _turn(self, batches: int) -> None:
        """The encoder has got a batch more, or one less."""
        now = time.monotonic()
        if self._at_work:
            self._busy += now - self._mark
        elif not self._busy:
            self._first, self._before = now, self._computed()  # until the first clip is ready nothing can be encoded
        self._mark = now
        self._at_work += batches
