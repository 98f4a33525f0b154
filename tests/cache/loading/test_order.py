from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.loading.order import Pool, ShuffledOrder, shuffled_runs
from emonet.errors import RequestError

Batches = list[list[int]]


def order_of(rows: Any, **changes: Any) -> ShuffledOrder:
    arguments = {"shard_clips": 8, "batch_size": 4, "pool_clips": 24, "run_clips": 3, "seed": 0, **changes}
    return ShuffledOrder(np.asarray(rows, np.int64), **arguments)


def batches_of(order: ShuffledOrder, epoch: int = 0, **which: int) -> Batches:
    found: Batches = []
    for pool in order.pools(epoch, **which):
        assert sum(pool.sizes) == len(pool.rows)
        found += [part.tolist() for part in np.split(pool.rows, np.cumsum(pool.sizes)[:-1])]
    return found


def is_possible(clips: int, batch_size: int, world: int) -> bool:
    """Whether each rank can get the same number of batches, none of them empty."""
    return -(-clips // (batch_size * world)) * world <= clips


@dataclass(frozen=True)
class Case:
    """Arguments that can work together; any rows of the store may be missing."""

    arguments: dict[str, Any]
    epoch: int
    workers: int

    @property
    def order(self) -> ShuffledOrder:
        return order_of(**self.arguments)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rows = sorted(draw(st.sets(st.integers(0, 150), min_size=1, max_size=120)))
    batch_size = draw(st.integers(1, 20))
    world = draw(st.sampled_from([world for world in range(1, 6) if is_possible(len(rows), batch_size, world)]))
    arguments = {
        "rows": rows,
        "shard_clips": draw(st.integers(1, 40)),
        "batch_size": batch_size,
        "pool_clips": batch_size + draw(st.integers(0, 80)),
        "run_clips": draw(st.integers(1, 20)),
        "seed": draw(st.integers(0, 5)),
        "world": world,
    }
    return Case(arguments, draw(st.integers(0, 3)), draw(st.integers(1, 4)))


@given(cases())
def test_each_clip_goes_out_once_and_every_rank_has_as_many_batches(case: Case) -> None:
    ranks = [replace(case.order, rank=rank) for rank in range(case.order.world)]
    batches = [batches_of(order, case.epoch) for order in ranks]
    clips = [row for rank in batches for batch in rank for row in batch]
    assert sorted(clips) == case.order.rows.tolist()
    assert {len(rank) for rank in batches} == {case.order.batches}
    sizes = {len(batch) for rank in batches for batch in rank}
    assert max(sizes) - min(sizes) <= 1
    assert 1 <= min(sizes) <= max(sizes) == case.order.largest_batch <= case.order.batch_size


@given(cases())
def test_pools_keep_to_their_size(case: Case) -> None:
    order = replace(case.order, rank=case.order.world - 1)
    pools = list(order.pools(case.epoch))
    assert len(pools) == order.pools_per_epoch
    assert max(len(pool.rows) for pool in pools) <= order.largest_pool() <= order.pool_clips
    assert max(len(pool.sizes) for pool in pools) - min(len(pool.sizes) for pool in pools) <= 1, "equally well mixed"
    for worker in range(case.workers):
        for pool in order.pools(case.epoch, worker=worker, workers=case.workers):
            assert len(pool.rows) <= order.largest_pool(case.workers)


@given(cases(), st.data())
def test_resuming_gives_what_is_left(case: Case, data: st.DataObject) -> None:
    order = replace(case.order, rank=data.draw(st.integers(0, case.order.world - 1)))
    everything = batches_of(order, case.epoch)
    first = data.draw(st.integers(0, len(everything)))
    assert batches_of(order, case.epoch, first=first) == everything[first:]
    assert batches_of(replace(order), case.epoch) == everything, "deterministic"


@given(cases(), st.data())
def test_workers_in_turn_give_what_one_process_gives(case: Case, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, case.order.batches))
    shares = [
        batches_of(case.order, case.epoch, first=first, worker=worker, workers=case.workers)
        for worker in range(case.workers)
    ]
    in_turn: Batches = []
    while any(shares):  # as a DataLoader asks them: in turn, without those that are done
        in_turn += [share.pop(0) for share in shares if share]
    assert in_turn == batches_of(case.order, case.epoch, first=first)


@given(
    rows=st.sets(st.integers(0, 200), min_size=1),
    shard_clips=st.integers(1, 30),
    run_clips=st.integers(1, 12),
    seed=st.integers(0, 9),
)
def test_runs_are_neighbours_in_one_shard(rows: set[int], shard_clips: int, run_clips: int, seed: int) -> None:
    ordered = np.array(sorted(rows))
    found = shuffled_runs(ordered, shard_clips, run_clips, np.random.default_rng(seed))
    assert sorted(found.tolist()) == ordered.tolist()
    places = np.searchsorted(ordered, found)
    follows = (np.diff(places) == 1) & (np.diff(found // shard_clips) == 0)
    shards = len(np.unique(ordered // shard_clips))
    # A shard of n clips is cut into at most n / run_clips full runs and two shorter ones.
    assert np.count_nonzero(~follows) + 1 <= len(ordered) / run_clips + 2 * shards


def test_seed_epoch_and_rank_give_other_orders() -> None:
    order = order_of(range(200))
    known = [
        batches_of(order),
        batches_of(order, 1),
        batches_of(replace(order, seed=1)),
        batches_of(replace(order, world=2)),
        batches_of(replace(order, world=2, rank=1)),
    ]
    assert all(mine != other for mine in known for other in known if mine is not other)


def test_clips_that_are_neighbours_do_not_stay_together() -> None:
    """2048 clips in 32 shards, pools of 256, runs of 8: the shuffle of one epoch, in figures."""
    order = order_of(range(2048), shard_clips=64, batch_size=32, pool_clips=256, run_clips=8)
    epochs = [batches_of(order, epoch) for epoch in range(20)]
    flat = np.array([[row for batch in epoch for row in batch] for epoch in epochs])
    correlations = [np.corrcoef(np.arange(2048), rows)[0, 1] for rows in flat]
    assert np.abs(correlations).max() < 0.25
    assert abs(np.mean(correlations)) < 0.05
    shards = [len({row // 64 for row in batch}) for epoch in epochs for batch in epoch]
    fully_random = 32 * (1 - (31 / 32) ** 32)  # 20.4: shards that 32 clips of a full shuffle come from
    assert np.mean(shards) > 0.8 * fully_random
    pairs = [abs(a - b) < 8 for epoch in epochs for batch in epoch for a in batch for b in batch if a != b]
    # Within 8 rows of each other: pairs of one run, of which there are fewer than run_clips / pool_clips = 3.1 %.
    assert np.mean(pairs) < 8 / 256 + 14 / 2048


def test_other_clips_meet_in_every_epoch() -> None:
    order = order_of(range(2048), shard_clips=64, batch_size=32, pool_clips=256, run_clips=8)
    meetings = [
        {frozenset(pair) for batch in batches_of(order, epoch) for pair in pairwise(batch)} for epoch in range(4)
    ]
    assert len(meetings[0] & meetings[1]) < 0.02 * len(meetings[0])


def test_small_stores() -> None:
    assert batches_of(order_of([7])) == [[7]]
    assert [sorted(batch) for batch in batches_of(order_of([2, 5, 9], batch_size=10, pool_clips=10))] == [[2, 5, 9]]
    one_shard = batches_of(order_of(range(64), shard_clips=64, pool_clips=64))
    assert len(one_shard) == 16
    assert one_shard != [list(range(start, start + 4)) for start in range(0, 64, 4)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0, at least 1 is needed"),
        ({"run_clips": -1}, "run_clips is -1, at least 1 is needed"),
        ({"world": 0}, "world is 0, at least 1 is needed"),
        ({"pool_clips": 0, "batch_size": 0}, "(?s)batch_size is 0.*pool_clips is 0"),
        ({"pool_clips": 3}, "pool_clips is 3, less than a batch of 4"),
        ({"rank": 2, "world": 2}, "rank is 2, 0 to 1 are possible with a world of 2"),
        ({"rank": -1, "pool_clips": 3}, "(?s)rank is -1, 0 to 0 are possible.*pool_clips is 3"),
        ({"world": 11}, "10 clips in batches of 4 cannot be shared by 11 ranks"),
        ({"world": 3, "batch_size": 1}, "10 clips in batches of 1 cannot be shared by 3 ranks"),
        ({"rows": []}, "there are no rows"),
        ({"rows": [1, 1]}, "not ascending, or a row occurs twice"),
    ],
)
def test_arguments_that_cannot_work_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        order_of(**{"rows": range(10), **changes})


def test_a_million_clips_are_planned_from_any_batch_on() -> None:
    order = order_of(range(1_000_000), shard_clips=64, batch_size=32, pool_clips=512, run_clips=8)
    pool = next(order.pools(0, first=order.batches - 1))
    assert isinstance(pool, Pool)
    assert pool.sizes == (32,)
