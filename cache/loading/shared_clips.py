"""Clips of a shared read, as one of several trainings sees them: the same batches as a read of its own would give."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import final

from cache.loading.buffers import POOLS
from cache.loading.loader import ClipBatch
from cache.loading.order import Pool
from cache.loading.sharing import SharedOrder, SharedPlace


@final
class SharedClips:
    """Batches out of buffers that another process fills.

    A batch is a view of a buffer and is overwritten some time after the first one of the next pool was asked for.

    Args:
        order: what is read, as the process that reads has it.
        place: of the buffers.
        ask: says that all pools before this number are done with, and returns when this one is there.
    """

    def __init__(self, order: SharedOrder, place: SharedPlace, ask: Callable[[int], None]) -> None:
        self.order = order
        self._buffers, self._ask = place.open(), ask
        self._epochs = self._validated = 0  # begun

    def training(self) -> Iterator[ClipBatch]:
        """The training clips of the next epoch."""
        epoch = self._epochs
        self._epochs += 1
        yield from self._batches(epoch * self.order.per_epoch, self.order.training.pools(epoch))

    def validation(self) -> Iterator[ClipBatch]:
        """The validation clips in order; to be asked for once an epoch, after its training clips."""
        first = self._validated * self.order.per_epoch + self.order.training.pools_per_epoch
        self._validated += 1
        yield from self._batches(first, self.order.validation_pools())

    def _batches(self, first: int, pools: Iterable[Pool]) -> Iterator[ClipBatch]:
        for number, pool in enumerate(pools, first):
            self._ask(number)
            states, end = self._buffers[number % POOLS], 0
            for size in pool.sizes:
                start, end = end, end + size
                yield ClipBatch(pool.rows[start:end], states[start:end])
