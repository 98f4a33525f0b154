"""Sharing one read of a store: pools are read once, into memory that several processes see, for all that train at once.

Here: the process that reads. `SharedClips` (shared_clips.py) is what each of the others trains on.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Int64

from cache.loading.buffers import POOLS
from cache.loading.order import Pool, ShuffledOrder
from cache.store import FeatureStore
from emonet.errors import EmonetError


@dataclass(frozen=True)
class SharedPlace:
    """Where an array in shared memory is: picklable, for processes of the same user on this machine."""

    path: str
    shape: tuple[int, ...]
    dtype: str

    def open(self) -> np.ndarray:
        """The array, as all that have opened it see it."""
        if 0 in self.shape:  # nothing can be mapped
            return np.empty(self.shape, self.dtype)
        return np.memmap(self.path, self.dtype, "r+", shape=self.shape)


@final
class SharedArray:
    """An array in memory without a name, which is gone with the last process that has it open.

    Args:
        shape: of the array.
        dtype: of its values.
        folder: for a file in its stead, where the system has no such memory (it is not Linux).
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, folder: Path) -> None:
        self._file: Path | None = None
        if hasattr(os, "memfd_create"):  # unlike /dev/shm, it has no limit of its own in a container
            self._handle = os.memfd_create("emonet", os.MFD_CLOEXEC)
            path = f"/proc/{os.getpid()}/fd/{self._handle}"
        else:
            self._handle, path = tempfile.mkstemp(dir=folder)
            self._file = Path(path)
        os.ftruncate(self._handle, max(1, int(np.prod(shape)) * dtype.itemsize))
        self.place = SharedPlace(path, shape, dtype.str)
        self.array = self.place.open()

    @classmethod
    def of(cls, values: np.ndarray, folder: Path) -> SharedArray:
        """A copy of an array."""
        shared = cls(values.shape, values.dtype, folder)
        shared.array[...] = values
        return shared

    def close(self) -> None:
        """Let nobody open it any more; those who have opened it keep it."""
        os.close(self._handle)
        if self._file is not None:
            self._file.unlink(missing_ok=True)


@dataclass(frozen=True, eq=False)
class SharedOrder:
    """What is read, pool after pool: each epoch its training clips, shuffled, then the validation clips in order.

    Args:
        training: the order that a training alone would have.
        validation: rows of the store, ascending.
    """

    training: ShuffledOrder
    validation: Int64[np.ndarray, " clips"]

    @property
    def clips(self) -> int:
        """Of the largest pool (count)."""
        return max(self.training.largest_pool(), min(self.training.batch_size, len(self.validation)))

    @property
    def per_epoch(self) -> int:
        """Pools of an epoch, of training and validation (count)."""
        return self.training.pools_per_epoch + len(self.validation_pools())

    def validation_pools(self) -> list[Pool]:
        """The validation clips in order, in whole batches."""
        batch, pools = self.training.batch_size, []
        most = max(1, self.clips // batch) * batch
        for start in range(0, len(self.validation), most):
            rows = self.validation[start : start + most]
            pools.append(Pool(rows, tuple(min(batch, len(rows) - at) for at in range(0, len(rows), batch))))
        return pools

    def pools(self) -> Iterator[Pool]:
        """Those of all epochs, without end."""
        for epoch in count():
            yield from self.training.pools(epoch)
            yield from self.validation_pools()


@final
class SharedReading:
    """Reads pools ahead in a thread, into as many buffers as one training would have; a context manager.

    A buffer is read into again when all readers have asked for a later pool: the slowest one sets the pace, and none is
    more than a pool ahead.

    Args:
        store: where the states are.
        order: what is read.
        answers: by reader, called, from any thread, when the pool is there that it asked for; with what went wrong, if
            the store cannot be read.
        folder: see `SharedArray`.
    """

    def __init__(
        self,
        store: FeatureStore,
        order: SharedOrder,
        answers: Mapping[int, Callable[[Exception | None], None]],
        folder: Path,
    ) -> None:
        self._store, self._order, self._answers = store, order, answers
        self._buffers = SharedArray((POOLS, order.clips, *store.record.shape[1:]), np.dtype(np.float16), folder)
        self._asked = dict.fromkeys(
            answers, 0
        )  # which pool each reader uses or waits for: it is done with those before
        self._waiting: set[int] = set()
        self._ready = -1  # the last pool that was read
        self._error: Exception | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read_all, name="shared reading", daemon=True)

    @property
    def place(self) -> SharedPlace:
        """Where the buffers are: `pools clips frames width`; pool n is in buffer n modulo their number."""
        return self._buffers.place

    @property
    def pools(self) -> int:
        """Read so far (count)."""
        return self._ready + 1

    def __enter__(self) -> SharedReading:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self._buffers.close()

    def ask(self, reader: int, pool: int) -> None:
        """A reader is done with all pools before this one; it is answered when this one is there."""
        with self._changed:
            if reader in self._asked:
                self._asked[reader] = pool
                self._waiting.add(reader)
                self._answer()
                self._changed.notify_all()

    def leave(self, reader: int) -> None:
        """A reader has ended."""
        with self._changed:
            self._asked.pop(reader, None)
            self._waiting.discard(reader)
            self._changed.notify_all()

    def _read_all(self) -> None:
        try:
            self._read(enumerate(self._order.pools()))
        except Exception as error:  # noqa: BLE001 told to whoever waits for it
            with self._changed:
                self._error = error
                self._answer()

    def _read(self, pools: Iterable[tuple[int, Pool]]) -> None:
        for number, pool in pools:
            with self._changed:
                self._changed.wait_for(lambda number=number: self._over or self._free(number))  # type: ignore[misc]
                if self._over:
                    return
            self._store.read(pool.rows, out=self._buffers.array[number % POOLS][: len(pool.rows)])
            with self._changed:
                self._ready = number
                self._answer()

    @property
    def _over(self) -> bool:
        return self._closed or not self._asked

    def _free(self, number: int) -> bool:
        """Whether nobody uses the buffer of a pool."""
        return all(asked > number - POOLS for asked in self._asked.values())

    def _answer(self) -> None:
        for reader in sorted(self._waiting):
            if self._asked[reader] <= self._ready or self._error is not None:
                self._waiting.discard(reader)
                with suppress(BrokenPipeError, TimeoutError):  # it has died, which others will notice
                    self._answers[reader](self._error)


def as_error(error: Exception) -> EmonetError:
    """An error of the reading, as one that can be told to another process."""
    return error if isinstance(error, EmonetError) else EmonetError(f"the store cannot be read: {error}")
