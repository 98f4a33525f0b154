"""Losses of a cluster's extraction: why a worker has died, and what the person is told when none is left."""

from __future__ import annotations

import re
from collections.abc import Mapping

from cache.extraction.worker import LostError
from emonet.errors import EmonetError

_DETAIL = re.compile(r"exit detail: (.*?)(?: Some common causes|$)", re.M)  # what Ray tells of a worker that died


def reason_of(error: Exception) -> str:
    """Why a worker was lost, in a line.

    Args:
        error: that Ray raised for a call to it.
    """
    from ray.exceptions import OutOfMemoryError

    cause = getattr(error, "cause", None)
    if isinstance(cause, LostError):
        return str(cause)
    if isinstance(error, OutOfMemoryError):  # Ray's own watch; of the kernel's nobody tells
        return "its process ended for want of memory"
    text = str(error)
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    detail = _DETAIL.search(text)
    return f"its process ended ({detail[1] if detail and detail[1] else lines[-1] if lines else type(error).__name__})"


def cannot_start(reason: str) -> EmonetError:
    """No worker's process comes up, anywhere."""
    return EmonetError(
        "workers cannot be started on the cluster",
        found=reason,
        hint="emonet in the same environment on every node; the logs of Ray: /tmp/ray/session_latest/logs",
    )


def die_at_a_shard(deaths: int, shard: int, reason: str) -> EmonetError:
    """So many workers died at this shard."""
    return EmonetError(
        f"{deaths} workers died at the same shard; every finished shard is kept",
        where=f"shard {shard}",
        found=reason,
        hint="its clips, one by one, in a process of this machine: --engine local",
    )


def die_on_a_node(deaths: int, reason: str | None) -> EmonetError:
    """So many workers of one node died without a shard in between; the last one for that reason."""
    return EmonetError(
        f"{deaths} workers died one after the other",
        found=reason,
        hint="less memory than on other nodes? --extraction.batch-size N, a larger "
        "--extraction.processors-per-worker (fewer workers a node), or leave that node out",
    )


def no_node_can(first: EmonetError) -> EmonetError:
    """Every node was left out; the first for that reason, whose kind is kept."""
    error = type(first)(f"no node of the cluster can do it: {first.what}", hint=first.hint)
    error.args = (f"no node of the cluster can do it: {first}",)
    return error


def none_placed(seconds: float, needed: str, free: Mapping[str, float]) -> EmonetError:
    """Nobody had room for a worker in that time; `free` is as Ray tells it."""
    return EmonetError(
        f"no worker was placed within {seconds:.0f} s; every finished shard is kept",
        expected=f"a node with room for {needed}",
        found=f"{free.get('CPU', 0):g} processors and {free.get('GPU', 0):g} GPUs free, of all nodes together",
        hint="--extraction.processors-per-worker N",
    )
