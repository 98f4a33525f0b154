"""Which process runs a trial, and whether it is still there."""

from __future__ import annotations

import os
import platform
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

DIED = "its worker died"
BOOT = Path("/proc/sys/kernel/random/boot_id")  # another one after each start of the machine


@cache
def place() -> str:
    """This machine since its start, and on it the space of process ids, which containers have of their own.

    A name alone would not do: machines that were cloned share it.
    """
    boot, space = "", 0
    with suppress(OSError):
        boot = BOOT.read_text("ascii").strip().partition("-")[0]
        space = Path("/proc/self/ns/pid").stat().st_ino
    return f"{platform.node()}/{boot}/{space}"


def identity() -> str:
    """This process, among all that work on a study: `HOST/BOOT/NAMESPACE/PID`."""
    return f"{place()}/{os.getpid()}"


def reason_of_death(worker: str | None) -> str | None:
    """Why a worker is known to be dead; None if it lives, or if that cannot be seen from here."""
    where, _, number = (worker or "").rpartition("/")
    if where != place():
        return None
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return f"{DIED} (process {number} on {platform.node()})"
    except (PermissionError, ValueError):
        return None
    return None


class Signs:
    """What running trials have shown of themselves, by this process' own clock.

    Args:
        most: for so long one may be silent (seconds).
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._seen: dict[int, tuple[object, float]] = {}  # trial -> last sign of life, and when it was first seen
        self._looked = time.monotonic()

    def look(self) -> None:
        """Begin a look at all trials; after a time without one, nobody counts as silent for what went before."""
        now = time.monotonic()
        if now - self._looked > self._most / 2:
            self._seen.clear()
        self._looked = now

    def silent(self, number: int, sign: object) -> bool:
        """Whether a trial has shown the same sign for too long."""
        now = time.monotonic()
        before, since = self._seen.get(number, (None, 0.0))
        if number not in self._seen or before != sign:
            self._seen[number] = (sign, now)
            return False
        return now - since > self._most
