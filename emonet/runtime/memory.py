"""The machine's memory: what this process holds, and what is left for it."""

from __future__ import annotations

import os
import resource
from pathlib import Path


def resident_bytes() -> int:
    """What this process holds in memory now (bytes)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux: the most that it ever held
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def available_bytes() -> int:
    """What the system calls available, or what the container's limit leaves where that is less (bytes)."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):  # not Linux
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return min([free, *container_limits()])


def container_limits(folder: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """What a container leaves, where one sets a limit (cgroup version 2); files that are cached make way."""
    try:
        limit, used = ((folder / name).read_text().strip() for name in ("memory.max", "memory.current"))
        counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        cached = int(counts.get("inactive_file", 0)) + int(counts.get("active_file", 0))
        return [] if limit == "max" else [int(limit) - int(used) + cached]
    except (OSError, ValueError):
        return []
