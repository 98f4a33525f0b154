"""Why a cluster's worker was lost, and what is told when none is left."""

from __future__ import annotations

import pytest

from cache.extraction.losses import cannot_start, die_at_a_shard, die_on_a_node, no_node_can, none_placed, reason_of
from cache.extraction.worker import LostError
from emonet.errors import EmonetError, RequestError


class CallError(Exception):
    """As Ray raises for a call: what it was raised from is its cause."""

    def __init__(self, text: str, cause: Exception | None = None) -> None:
        super().__init__(text)
        self.cause = cause


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (CallError("Traceback", LostError("MemoryError: too much")), "MemoryError: too much"),
        (
            CallError("The actor died.\n worker exit detail: Worker unexpectedly exits. Some common causes include"),
            "its process ended (Worker unexpectedly exits.)",
        ),
        (CallError("The actor died.\n  The node was lost.\n\n"), "its process ended (The node was lost.)"),
        (CallError("", ValueError("no")), "its process ended (CallError)"),
    ],
)
def test_the_reason_is_one_line(error: Exception, reason: str) -> None:
    pytest.importorskip("ray", reason="ray is an extra, and not here")
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
            none_placed(600.0, "2 processors", {"CPU": 1.0}),
            ["within 600 s", "2 processors", "'CPU': 1.0", "--extraction"],
        ),
    ]:
        assert isinstance(error, EmonetError)
        for word in words:
            assert word in str(error)
