"""Processes: which one this is, among all machines, and whether another one is still there."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from functools import cache
from pathlib import Path

BOOT = Path("/proc/sys/kernel/random/boot_id")  # another one after each start of the machine
_STATE, _STARTED = 0, 19  # fields of /proc/PID/stat, counted from the one after the program's name


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
    """This process, among all: `HOST/BOOT/NAMESPACE/PID`."""
    return f"{place()}/{os.getpid()}"


def stamp() -> str:
    """This process, told apart from later ones that get the same id: `HOST/BOOT/NAMESPACE/PID@START`."""
    return f"{identity()}@{_facts(os.getpid())[1]}"


def is_dead(process: str) -> bool:
    """Whether a process is known to have ended; false if it lives, or if that cannot be seen from here.

    Args:
        process: as `identity` or `stamp` give it.
    """
    where, _, who = process.rpartition("/")
    number, _, started = who.partition("@")
    if where != place() or not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    state, began = _facts(int(number))
    return state in ("Z", "X") or bool(started and began and started != began)


def _facts(number: int) -> tuple[str, str]:
    """State of a process, and when it began (ticks since the machine's start); empty where the system does not tell."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return "", ""
    return fields[_STATE], fields[_STARTED]
