from __future__ import annotations

from collections.abc import Iterator

import pytest

from cache.extraction import throughput as meter
from cache.extraction.throughput import Meter, Speed


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(meter, "time", clock)
    return clock


def batches(clock: Clock, count: int) -> Iterator[int]:
    for batch in range(count):
        clock.passes(1.0)  # until it is decoded
        yield batch


def test_an_encoder_that_does_one_batch_after_the_other(clock: Clock) -> None:
    counted = Meter(flops_per_clip=2e12)

    def encoder(incoming: Iterator[int]) -> Iterator[int]:
        for batch in incoming:
            clock.passes(4.0)
            yield batch

    assert counted.speed().note() == ""
    for _ in counted.drained(encoder(counted.fed(batches(clock, 3)))):
        counted.add(8, failed=1)
        counted.wrote(10_000_000)
        clock.passes(2.0)  # putting it away
    # from the first batch's start to the last one's end: 3 x 4 s of encoding, 2 x (2 s + 1 s) of other things
    speed = counted.speed()
    assert (speed.clips, speed.failed) == (24, 3)
    assert speed.tflops == pytest.approx(24 * 2 / 12)
    assert speed.share == pytest.approx(12 / 18)
    assert speed.megabytes_per_second == pytest.approx(30 / 18)
    assert speed.note() == "4 TFLOP/s, encoder 67 %, 1.7 MB/s"


def test_a_gpus_own_clock_tells_when_it_computed(clock: Clock) -> None:
    """The encoder has a pass all the time, and computes in 2 of 5 s; before, it has computed something else."""
    computed = [7.0]
    counted = Meter(2e12, lambda: computed[0])
    computed[0] += 90.0

    def encoder(incoming: Iterator[int]) -> Iterator[int]:
        before = None
        for batch in incoming:
            if before is not None:
                clock.passes(4.0)
                computed[0] += 2.0
                yield before
            before = batch
        computed[0] += 2.0
        clock.passes(5.0)
        assert before is not None
        yield before

    for _ in counted.drained(encoder(counted.fed(batches(clock, 3)))):
        counted.add(8, failed=0)
    speed = counted.speed()
    assert speed.share == pytest.approx(6 / 15)
    assert speed.tflops == pytest.approx(24 * 2 / 6)


def test_an_encoder_that_has_the_next_batch_while_the_last_is_taken(clock: Clock) -> None:
    counted = Meter(flops_per_clip=1e12)

    def encoder(incoming: Iterator[int]) -> Iterator[int]:
        before = None
        for batch in incoming:
            if before is not None:
                clock.passes(3.0)
                yield before
            before = batch
        clock.passes(3.0)
        assert before is not None
        yield before

    for _ in counted.drained(encoder(counted.fed(batches(clock, 4)))):
        counted.add(1, failed=0)
        clock.passes(1.0)
    assert counted.speed().share == 1.0
    assert counted.speed().tflops == pytest.approx(4 / 18)


def test_several_processes_add_up() -> None:
    speeds = [Speed(10, 1, 0.5, 0.75, 2.0), Speed(20, 0, 0.25, 0.25, 1.0)]
    assert Speed.joined(speeds) == Speed(30, 1, 0.75, 0.5, 3.0)
    assert Speed.joined([]) == Speed()
