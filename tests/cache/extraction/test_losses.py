"""Why a cluster's worker was lost, and what is told when none is left."""

from __future__ import annotations

import pytest

from cache.extraction.losses import cannot_start, die_at_a_shard, die_on_a_node, no_node_can, none_placed, reason_of
from cache.extraction.worker import LostError
from emonet.errors import EmonetError, RequestError


def died(cause: str) -> Exception:
    """As Ray raises it where an actor's process has ended."""
    exceptions = pytest.importorskip("ray.exceptions", reason="ray is an extra, and not here")
    context = exceptions.ActorDiedErrorContext(error_message=cause, actor_id=bytes(16), class_name="ShardWorker")
    error: Exception = exceptions.ActorDiedError(context)
    return error


def raised(cause: Exception) -> Exception:
    """As Ray raises what a call of an actor has raised."""
    exceptions = pytest.importorskip("ray.exceptions", reason="ray is an extra, and not here")
    error: Exception = exceptions.RayTaskError("fill", "Traceback\n  much text", cause).as_instanceof_cause()
    return error


def test_the_reason_is_one_line() -> None:
    for error, reason in [
        (raised(LostError("MemoryError: too much")), "MemoryError: too much"),
        (
            died("The actor died.\n worker exit detail: Worker unexpectedly exits. Some common causes include: OOM"),
            "its process ended (Worker unexpectedly exits.)",
        ),
        (died("The actor died.\n  The node was lost.\n\n"), "its process ended (The node was lost.)"),
        (died("The actor died.\n worker exit detail: "), "its process ended (worker exit detail:)"),
        (ConnectionError(), "its process ended (ConnectionError)"),
    ]:
        assert reason_of(error) == reason


def test_ray_tells_of_memory_itself() -> None:
    exceptions = pytest.importorskip("ray.exceptions", reason="ray is an extra, and not here")
    assert reason_of(exceptions.OutOfMemoryError("much text")) == "its process ended for want of memory"


def test_what_is_told_names_the_place_and_the_way_out() -> None:
    first = RequestError("other versions", found="3.12", hint="the same environment")
    assert type(no_node_can(first)) is RequestError, "the exit code is that of the reason"
    for error, words in [
        (no_node_can(first), ["no node of the cluster can do it: other versions", "3.12", "the same environment"]),
        (cannot_start("no module emonet"), ["cannot be started", "no module emonet", "/tmp/ray/session_latest/logs"]),
        (die_at_a_shard(4, 7, "killed"), ["4 workers", "shard 7", "killed", "--engine local"]),
        (die_on_a_node(3, "killed"), ["3 workers died one after the other", "killed", "--extraction.batch-size"]),
        (
            none_placed(600.0, "2 processors", {"CPU": 1.0, "node:__internal_head__": 1.0}),
            ["within 600 s", "2 processors", "1 processors and 0 GPUs free", "--extraction.processors-per-worker"],
        ),
    ]:
        assert isinstance(error, EmonetError)
        for word in words:
            assert word in str(error)
