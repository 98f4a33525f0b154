"""Heartbeat of a worker: whether the process that runs a trial is still there."""

from __future__ import annotations

import platform
import time

from emonet.runtime import is_dead

DIED = "its worker died"


def reason_of_death(worker: str | None) -> str | None:
    """Why a worker is known to be dead; None if it lives, or if that cannot be seen from here."""
    if worker is None or not is_dead(worker):
        return None
    return f"{DIED} (process {worker.rpartition('/')[2]} on {platform.node()})"


class Liveness:
    """What running trials have shown of themselves, by this process' own clock.

    Args:
        most: for so long one may be silent (seconds).
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._seen: dict[int, tuple[object, float]] = {}  # trial -> last sign of life, and when it was first seen
        self._looked = time.monotonic()

    def begin(self) -> None:
        """Begin a look at all trials; after a time without one, nobody counts as silent for what went before."""
        now = time.monotonic()
        if now - self._looked > self._most / 2:
            self._seen.clear()
        self._looked = now

    def is_stale(self, number: int, sign: object) -> bool:
        """Whether a trial has shown the same sign for too long."""
        now = time.monotonic()
        before, since = self._seen.get(number, (None, 0.0))
        if number not in self._seen or before != sign:
            self._seen[number] = (sign, now)
            return False
        return now - since > self._most
