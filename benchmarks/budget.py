"""A time budget for contestants: by what one clip took each, who takes part and on how many clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SHARE = 0.8  # of the time that is left; the rest is for what a probe does not show


@dataclass(frozen=True)
class Plan:
    """What fits into the time.

    Args:
        clips: of each run (count).
        left_out: contestant -> seconds per clip in the probe.
    """

    clips: int
    left_out: Mapping[str, float]


def plan_runs(probed: Mapping[str, float], *, keep: str, seconds: float, clips: int, runs: int, least: int = 8) -> Plan:
    """Leave out the slowest until runs over `least` clips fit; then take as many clips as fit.

    Args:
        probed: contestant -> seconds that one clip took.
        keep: the contestant that always takes part.
        seconds: that are left.
        clips: of each run, at most and if there is time (count).
        runs: of each contestant (count).
        least: clips below which batches would not be full; more than that are a multiple of it (count).
    """
    least, rest = min(least, clips), dict(probed)
    left_out = {}
    for name in sorted(probed, key=probed.__getitem__, reverse=True):
        if name != keep and _seconds(rest, least, runs) > SHARE * seconds:
            left_out[name] = rest.pop(name)
    fitting = int(SHARE * seconds / _seconds(rest, 1, runs))
    if least < fitting < clips:
        fitting -= fitting % least
    return Plan(max(1, min(clips, fitting)), left_out)


def _seconds(probed: Mapping[str, float], clips: int, runs: int) -> float:
    return clips * runs * sum(probed.values())
