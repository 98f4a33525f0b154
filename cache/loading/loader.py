"""Shuffled batches out of a feature store that does not fit into memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float16, Int, Int64
from torch.utils.data import IterableDataset, get_worker_info

from cache.loading.buffers import POOLS, PoolMemory, PoolReader
from cache.loading.order import ShuffledOrder
from cache.store import FeatureStore
from emonet.errors import RequestError

POOL_CLIPS = 512  # 1.2 GB of Whisper small's states
RUN_CLIPS = 8  # 18 MB of them before compression: enough for a disk to read at full speed


class ClipBatch(NamedTuple):
    """Clips of a store; NumPy arrays, which a `DataLoader` turns into tensors.

    Args:
        rows: `batch`, of the store: `store.scores(rows)` are their scores.
        states: `batch frames width`, float16.
    """

    rows: Int64[np.ndarray, " batch"]
    states: Float16[np.ndarray, "batch frames width"]


@final
class ShuffledClips(IterableDataset[ClipBatch]):
    """Each clip once an epoch, in a new random order, while the next clips are read in the background.

    Runs of neighbouring clips from all over the store are read into a pool of memory; the batches of a pool hold its
    clips in random order, whatever run they came from. Two clips of a batch are from one run with a probability of
    about `run_clips / pool_clips`. Rank, order and number of batches follow `ShuffledOrder` (order.py): the same
    seed and epoch give the same batches, with any number of workers.

    Each `iter()` is a new epoch: the next one, if the last one was begun. After `load_state_dict` it is the rest of
    that epoch, and what went out before is not read again. A worker process of a `DataLoader` (made with
    `batch_size=None`) does as `set_epoch` or `load_state_dict` said in the main process, so call one for each epoch.

    **Memory.** At most two pools of states are held, `memory_bytes` in all: one whose batches go out and one that is
    being read. Workers share that sum; each holds at least two batches, and what a `DataLoader` itself prefetches
    comes on top. A batch is a view of its pool, which is read into again when none of its batches is in use any more:
    whoever keeps a batch keeps its pool, and then there is a further one. Copy what is to be kept. Besides the pools
    there is what `store.read` needs (a compressed clip per thread) and the order of the epoch (16 bytes per clip, 53
    while it is made). The memory stays for the next epoch, until `release`.

    Args:
        store: where the states are.
        rows: of the store; None takes all that have states.
        batch_size: most clips in a batch (count).
        seed: of the order.
        pool_clips: most clips in a pool (count).
        run_clips: most neighbouring clips that are read together (count).
        rank: which of the `world` processes of a distributed training this is, from 0.
        world: processes of a distributed training; each gets the same number of batches (count).

    Raises:
        RequestError: if these arguments cannot work together, or the store has no such rows.
    """

    def __init__(
        self,
        store: FeatureStore,
        rows: Sequence[int] | Int[np.ndarray, " clips"] | None = None,
        *,
        batch_size: int,
        seed: int,
        pool_clips: int = POOL_CLIPS,
        run_clips: int = RUN_CLIPS,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        chosen = np.sort(store.numbers(store.rows() if rows is None else rows))
        self._store = store
        self._order = ShuffledOrder(
            chosen, store.record.shard_clips, batch_size, pool_clips, run_clips, seed, rank, world
        )
        # Shared memory, so that workers that outlive an epoch see what the main process says about the next one.
        self._place = torch.zeros(2, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self._memory: PoolMemory | None = None
        self._resumes = True  # the next iteration goes on at this place; else it begins another epoch

    def __len__(self) -> int:
        """Batches of a whole epoch on this rank."""
        return self._order.batches

    @property
    def order(self) -> ShuffledOrder:
        """Of the batches of each epoch."""
        return self._order

    @property
    def memory_bytes(self) -> int:
        """The most bytes of states that the loader holds."""
        return POOLS * self._order.largest_pool() * self._store.record.clip_bytes

    def __iter__(self) -> Iterator[ClipBatch]:
        """The batches of an epoch, or the rest of one."""
        epoch, done = self._where()
        worker = get_worker_info()
        if worker is not None:
            yield from self._batches(epoch, done, worker.id, worker.num_workers)
            return
        if done and not self._resumes:
            epoch, done = epoch + 1, 0
        self._resumes = False
        for batch in self._batches(epoch, done):
            done += 1
            self._go_to(epoch, done)
            yield batch

    def set_epoch(self, epoch: int) -> None:
        """Begin with this epoch (counted from 0) next time."""
        self._go_to(epoch, 0)
        self._resumes = True

    def state_dict(self) -> dict[str, Any]:
        """The place in the sequence of batches, as this process iterates; the same on every rank."""
        epoch, batches = self._where()
        return {"epoch": epoch, "batches": batches, "order": self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on at a place that `state_dict` gave; `batches` counts those of one rank, through all its workers.

        Raises:
            RequestError: if an epoch was interrupted whose batches were others than this loader's.
        """
        epoch, batches = int(state["epoch"]), int(state["batches"])
        mine = self._identity()
        differing = [
            f"    - {name}: {state['order'].get(name)} then, {value} now"
            for name, value in mine.items()
            if state["order"].get(name) != value
        ]
        if batches and differing:  # between two epochs anything may change
            what = "\n".join(["an epoch cannot be resumed in another order than it began", *differing])
            raise RequestError(what, where=self._store.path, hint="what it began with; or set_epoch, to begin anew")
        if epoch < 0 or not 0 <= batches <= len(self):
            raise RequestError(
                "an epoch has no such place",
                where=self._store.path,
                expected=f"0 to {len(self)} batches",
                found=f"epoch {epoch}, batch {batches}",
            )
        self._go_to(epoch, batches)
        self._resumes = True

    def release(self) -> None:
        """Free the memory of the pools, which is otherwise kept from one epoch to the next."""
        self._memory = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_memory": None}

    def _where(self) -> tuple[int, int]:
        """Epoch and the number of its batches that have gone out; an epoch that is over is the next one's beginning."""
        epoch, batches = self._place.tolist()
        return (epoch + 1, 0) if batches == len(self) else (epoch, batches)

    def _go_to(self, epoch: int, batches: int) -> None:
        self._place[:] = torch.tensor([epoch, batches])

    def _batches(self, epoch: int, done: int, worker: int = 0, workers: int = 1) -> Iterator[ClipBatch]:
        pools = self._order.pools(epoch, first=done, worker=worker, workers=workers)
        for pool, states in PoolReader(self._store, pools, self._memory_for(workers)):
            end = 0
            for size in pool.sizes:
                start, end = end, end + size
                yield ClipBatch(pool.rows[start:end], states[start:end])

    def _memory_for(self, workers: int) -> PoolMemory:
        shape = (self._order.largest_pool(workers), *self._store.record.shape[1:])
        if self._memory is None or self._memory.shape != shape:
            self._memory = PoolMemory(shape)
        return self._memory

    def _identity(self) -> dict[str, object]:
        order = self._order
        return {
            "store": self._store.fingerprint,
            "rows": hashlib.sha256(order.rows.tobytes()).hexdigest()[:16],
            **{name: getattr(order, name) for name in ("batch_size", "pool_clips", "run_clips", "seed", "world")},
        }
