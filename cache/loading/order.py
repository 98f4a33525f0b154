"""Shuffled order of clips in training: runs of neighbours, pooled, shuffled, cut into batches.

Nothing is read here: an epoch of a million clips is planned in a few tens of milliseconds, from any batch on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Int64

from emonet.errors import raise_collected
from emonet.runtime import generator


class Pool(NamedTuple):
    """Clips that are in memory together, batch after batch.

    Args:
        rows: of the store, in the order in which they go out.
        sizes: clips of each batch (count).
    """

    rows: Int64[np.ndarray, " clips"]
    sizes: tuple[int, ...]


@final
@dataclass(frozen=True, eq=False)
class ShuffledOrder:
    """The batches of every epoch, the same for the same arguments.

    Runs of up to `run_clips` neighbouring clips of one shard, cut anew each epoch, are put in random order. Each rank
    takes an equal part of that sequence and cuts it into pools; the clips of a pool are put in random order and cut
    into batches. All ranks have the same number of batches, of sizes that differ by at most one clip.

    Args:
        rows: of the store, ascending, each once.
        shard_clips: clips per shard of the store (count).
        batch_size: most clips in a batch (count).
        pool_clips: most clips in a pool (count).
        run_clips: most clips in a run (count).
        seed: of all epochs.
        rank: whose batches these are, from 0.
        world: ranks that share an epoch (count).

    Raises:
        RequestError: if these arguments cannot work together; lists every reason.
    """

    rows: Int64[np.ndarray, " clips"]
    shard_clips: int
    batch_size: int
    pool_clips: int
    run_clips: int
    seed: int
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        raise_collected("the clips cannot be loaded in batches", self._problems(), where="arguments of ShuffledClips")

    @property
    def batches(self) -> int:
        """Batches of an epoch on each rank."""
        return -(-len(self.rows) // (self.batch_size * self.world))

    @property
    def largest_batch(self) -> int:
        """Clips of the largest batch."""
        return -(-len(self.rows) // (self.batches * self.world))

    @property
    def pools_per_epoch(self) -> int:
        """Pools of an epoch on each rank, all of about the same size."""
        return -(-self.batches // (self.pool_clips // self.largest_batch))

    def largest_pool(self, workers: int = 1) -> int:
        """The most clips of a pool that one of `workers` processes, which share each pool, can get."""
        batches = -(-self.batches // self.pools_per_epoch)
        return -(-batches // workers) * self.largest_batch

    def pools(self, epoch: int, *, first: int = 0, worker: int = 0, workers: int = 1) -> Iterator[Pool]:
        """The pools of an epoch, without the batches before `first`.

        Of the batches from `first` on, every `workers`-th is for the same worker, as a `DataLoader` asks them in turn:
        what it puts together does not depend on the number of workers.

        Args:
            epoch: counted from 0.
            first: batches that have gone out already (count).
            worker: which of the `workers` processes asks, from 0.
            workers: processes that share the batches of this rank (count).
        """
        sequence, edges = self._sequence(epoch), self._edges()
        starts = np.arange(self.pools_per_epoch + 1) * self.batches // self.pools_per_epoch
        for number, (begin, end) in enumerate(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)):
            mine = [batch for batch in range(max(begin, first), end) if (batch - first) % workers == worker]
            if not mine:
                continue
            members = generator("order in a pool", self.seed, epoch, self.rank, number).permutation(
                sequence[edges[begin] : edges[end]]
            )
            batches = np.split(members, edges[begin + 1 : end] - edges[begin])
            chosen = [batches[batch - begin] for batch in mine]
            yield Pool(np.concatenate(chosen), tuple(len(rows) for rows in chosen))

    def _sequence(self, epoch: int) -> Int64[np.ndarray, " mine"]:
        """This rank's clips of an epoch, run after run."""
        rng = generator("order of runs", self.seed, epoch)
        everything = shuffled_runs(self.rows, self.shard_clips, self.run_clips, rng)
        small, larger = divmod(len(self.rows), self.batches * self.world)
        # Of the batches of all ranks, counted step by step, the first `larger` have one clip more.
        ranks = np.arange(self.world + 1)
        ends = ranks * self.batches * small + larger // self.world * ranks + np.minimum(ranks, larger % self.world)
        return everything[ends[self.rank] : ends[self.rank + 1]]

    def _edges(self) -> Int64[np.ndarray, " edges"]:
        """Where this rank's batches begin in its sequence, and where the last one ends."""
        small, larger = divmod(len(self.rows), self.batches * self.world)
        sizes = small + (np.arange(self.batches) * self.world + self.rank < larger)
        return np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))

    def _problems(self) -> list[str]:
        counts = ("batch_size", "pool_clips", "run_clips", "world")
        problems = [
            f"{name} is {getattr(self, name)}, at least 1 is needed" for name in counts if getattr(self, name) < 1
        ]
        if not len(self.rows):
            problems.append("there are no rows")
        elif (np.diff(self.rows) < 1).any():
            problems.append("the rows are not ascending, or a row occurs twice")
        if problems:  # what follows counts with these numbers
            return problems
        if not 0 <= self.rank < self.world:
            problems.append(f"rank is {self.rank}, 0 to {self.world - 1} are possible with a world of {self.world}")
        if self.pool_clips < min(self.batch_size, len(self.rows)):
            problems.append(f"pool_clips is {self.pool_clips}, less than a batch of {self.batch_size}")
        if self.batches * self.world > len(self.rows):
            problems.append(
                f"{len(self.rows)} clips in batches of {self.batch_size} cannot be shared by {self.world} ranks"
                " so that each has as many batches as the others: use fewer ranks or larger batches"
            )
        return problems


def shuffled_runs(
    rows: Int64[np.ndarray, " clips"], shard_clips: int, run_clips: int, rng: np.random.Generator
) -> Int64[np.ndarray, " clips"]:
    """All `rows`, which ascend: runs of up to `run_clips` neighbours of one shard, in random order.

    Each shard is cut at another place every time, so that the same clips do not always travel together.
    """
    shards = rows // shard_clips
    begins = np.flatnonzero(np.diff(shards, prepend=-1))
    clips = np.diff(begins, append=len(rows))
    offset = np.repeat(rng.integers(0, run_clips, len(begins)) - begins, clips)
    run = (np.arange(len(rows)) + offset) // run_clips
    starts = np.flatnonzero((np.diff(shards, prepend=-1) != 0) | (np.diff(run, prepend=-1) != 0))
    lengths = np.diff(starts, append=len(rows))
    drawn = rng.permutation(len(starts))
    starts, lengths = starts[drawn], lengths[drawn]
    move = starts - (np.cumsum(lengths) - lengths)
    order = np.arange(len(rows)) + np.repeat(move, lengths)
    return np.asarray(rows[order])
