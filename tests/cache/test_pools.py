from __future__ import annotations

import queue
import threading

import numpy as np
import torch

from cache.pools import POOLS, PoolMemory

Changes = queue.SimpleQueue[None]


def address(states: np.ndarray) -> int:
    return int(states.__array_interface__["data"][0])


def test_memory_is_lent_again_when_the_last_view_is_gone() -> None:
    memory, changes = PoolMemory((4, 3, 2)), Changes()
    first = memory.lend(changes, more=False)
    second = memory.lend(changes, more=False)
    assert first is not None
    assert second is not None
    assert address(first) != address(second)
    assert (first.shape, first.dtype, first.flags.writeable, first.flags.c_contiguous) == ((4, 3, 2), "f2", True, True)
    assert memory.lend(changes, more=False) is None
    place, tensor = address(first), torch.from_numpy(first[1:])[1:].flatten()  # a view of a view of a view
    del first
    assert memory.lend(changes, more=False) is None
    assert changes.empty()
    del tensor
    changes.get(timeout=1)
    again = memory.lend(changes, more=False)
    assert again is not None
    assert address(again) == place


def test_what_is_lent_beyond_the_limit_is_let_go_afterwards() -> None:
    memory, changes = PoolMemory((4, 3, 2)), Changes()
    lent = [memory.lend(changes, more=True) for _ in range(5)]
    assert len({address(states) for states in lent if states is not None}) == 5
    del lent
    kept = [memory.lend(changes, more=False) for _ in range(5)]
    assert [states is not None for states in kept] == [True] * POOLS + [False] * 3


def test_views_may_die_in_another_thread_while_one_waits() -> None:
    memory, changes = PoolMemory((4, 3, 2)), Changes()
    lent = [memory.lend(changes, more=False) for _ in range(POOLS)]
    timer = threading.Timer(0.05, lent.clear)
    timer.start()
    changes.get(timeout=10)
    assert memory.lend(changes, more=False) is not None
    timer.join()
