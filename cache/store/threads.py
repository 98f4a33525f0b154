"""Threads that read: a pool for each process, shared by all stores that it has open."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

THREADS = min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}  # by process, since threads do not survive a fork, and size


def reading_pool(threads: int = THREADS) -> ThreadPoolExecutor:
    """This process' pool of so many threads (count)."""
    process = os.getpid(), threads
    pool = _pools.get(process)
    if pool is None:  # of two threads that get here, both take what the first one made
        pool = _pools.setdefault(process, ThreadPoolExecutor(threads, thread_name_prefix="store"))
    return pool
