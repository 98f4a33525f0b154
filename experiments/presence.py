"""Which process runs a trial, and whether it is still there."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

DIED = "its worker died"


@cache
def place() -> str:
    """This machine, and on it the space of process ids, which containers have of their own."""
    try:
        space = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        space = 0
    return f"{platform.node()}/{space}"


def identity() -> str:
    """This process, among all that work on a study: `HOST/NAMESPACE/PID`."""
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
