from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from cache.loading import POOLS
from cache.loading.buffers import Changes, PoolMemory


def address(states: np.ndarray) -> int:
    return int(states.__array_interface__["data"][0])


@pytest.fixture
def memory() -> PoolMemory:
    return PoolMemory((4, 3, 2))


@pytest.fixture
def changes(memory: PoolMemory) -> Iterator[Changes]:
    changes = Changes()
    with memory.listen(changes):
        yield changes


def test_memory_is_lent_again_when_the_last_view_is_gone(memory: PoolMemory, changes: Changes) -> None:
    first = memory.lend(more=False)
    second = memory.lend(more=False)
    assert first is not None
    assert second is not None
    assert address(first) != address(second)
    assert (first.shape, first.dtype, first.flags.writeable, first.flags.c_contiguous) == ((4, 3, 2), "f2", True, True)
    assert memory.lend(more=False) is None
    place, tensor = address(first), torch.from_numpy(first[1:])[1:].flatten()  # a view of a view of a view
    del first
    assert memory.lend(more=False) is None
    assert changes.empty()
    del tensor
    changes.get(timeout=1)
    again = memory.lend(more=False)
    assert again is not None
    assert address(again) == place


def test_what_is_lent_beyond_the_limit_is_let_go_afterwards(memory: PoolMemory) -> None:
    lent = [memory.lend(more=True) for _ in range(5)]
    assert len({address(states) for states in lent if states is not None}) == 5
    del lent
    kept = [memory.lend(more=False) for _ in range(5)]
    assert [states is not None for states in kept] == [True] * POOLS + [False] * 3


def test_views_may_die_in_another_thread_while_one_waits(memory: PoolMemory, changes: Changes) -> None:
    lent = [memory.lend(more=False) for _ in range(POOLS)]
    timer = threading.Timer(0.05, lent.clear)
    timer.start()
    changes.get(timeout=10)
    assert memory.lend(more=False) is not None
    timer.join()


def test_whoever_waits_is_told_of_what_others_were_lent(memory: PoolMemory) -> None:
    """An epoch's reader waits for what the last epoch's batches still hold."""
    first, second = Changes(), Changes()
    with memory.listen(first):
        held = memory.lend(more=False)
    with memory.listen(second):
        assert held is not None
        del held
        second.get(timeout=1)
    assert memory.lend(more=False) is not None
    assert first.empty()
