"""Buffers of clips: pools, read one ahead in a thread, into memory that is used again and again."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, final

import numpy as np
from jaxtyping import Float16

from cache.loading.order import Pool
from cache.store import FeatureStore
from emonet.runtime import prefetched

POOLS = 2  # in memory: one goes out, one is read
Changes = queue.SimpleQueue[None]  # says: look again, there may be memory, or something to do


class FilledPool(NamedTuple):
    """A pool that has been read: its batches, and `clips frames width` states in their order."""

    pool: Pool
    states: Float16[np.ndarray, "clips frames width"]


@final
class PoolReader:
    """Reads pools in a thread, one ahead; iterate over it once.

    Args:
        store: where the states are.
        pools: what to read.
        memory: to read them into.
    """

    def __init__(self, store: FeatureStore, pools: Iterator[Pool], memory: PoolMemory) -> None:
        self._store, self._pools, self._memory = store, pools, memory
        self._changes = Changes()
        self._asked = self._read = 0  # pools
        self._closed = False

    def __iter__(self) -> Iterator[FilledPool]:
        filled = prefetched(self._fill, ahead=1)
        with self._memory.listen(self._changes):
            try:
                self._ask()
                for pool in filled:
                    yield pool
                    self._ask()
            finally:
                self._closed = True
                self._changes.put(None)
                filled.close()

    def _ask(self) -> None:
        self._asked += 1
        self._changes.put(None)

    def _fill(self) -> Iterator[FilledPool]:
        for pool in self._pools:
            states = self._room()
            if states is None:
                return
            # In the order of the batches: a batch is then a part of the pool, and nothing is copied.
            states = states[: len(pool.rows)]
            self._store.read(pool.rows, out=states)
            self._read += 1
            yield FilledPool(pool, states)

    def _room(self) -> Float16[np.ndarray, "clips frames width"] | None:
        """Memory that nobody uses; None when nobody wants the pools any more."""
        while not self._closed:
            # A caller who waits for a pool while this thread waits for memory keeps all there is: then take more.
            states = self._memory.lend(more=self._asked > self._read)
            if states is not None:
                return states
            self._changes.get()
        return None


@final
class PoolMemory:
    """Arrays for states, lent as views and used again as soon as the last view is gone.

    Args:
        shape: of one array: clips, frames, width.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self._free: deque[np.ndarray] = deque(maxlen=POOLS)  # of more than these, the others are let go
        self._told: list[Changes] = []
        self._made = 0

    @contextmanager
    def listen(self, changes: Changes) -> Iterator[None]:
        """Within the block `changes` is told of every array that becomes free, whoever it was lent to."""
        self._told.append(changes)
        try:
            yield
        finally:
            self._told.remove(changes)
            _tell(self._told)  # a lease may have passed one over while the list became shorter

    def lend(self, *, more: bool) -> Float16[np.ndarray, "clips frames width"] | None:
        """A view of an array that nobody uses; None if there is none, unless `more` may be made.

        Args:
            more: make a further one if all are in use.
        """
        try:
            buffer = self._free.pop()
        except IndexError:
            if self._made >= POOLS and not more:
                return None
            self._made += 1
            buffer = np.empty(self.shape, np.float16)
        return np.asarray(_Lease(buffer, self._free, self._told))


@final
class _Lease:
    """Lends an array to NumPy and gives it back when the last view of it is gone.

    NumPy keeps the object that exposes an array interface alive as long as any view of it, or of a view, lives; so do
    the tensors made from them. What the destructor calls is safe in whatever thread, and wherever in it, it runs.

    Two fixed arrays and a copy of each batch would do without. Measured on two busy cores (192 clips of 1500 x 768, in
    batches of 16, medians of 5 to 9 passes that take turns), the copy makes a pass that only reads longer by 18 % from
    a lossless store, 6 % from int8 and 40 % from none; where statistics are made of each batch, its processor time by
    7 %.
    """

    def __init__(self, buffer: np.ndarray, free: deque[np.ndarray], told: list[Changes]) -> None:
        self._buffer, self._free, self._told = buffer, free, told

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self._buffer.__array_interface__

    def __del__(self) -> None:
        self._free.append(self._buffer)
        _tell(self._told)


def _tell(told: list[Changes]) -> None:
    for changes in told:
        changes.put(None)
