from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from cache.loading import ShuffledClips
from cache.loading.loader import ClipBatch
from cache.store import ExtractionRecord, FeatureStore, shard_file
from emonet.clips import Clip, Corpus
from emonet.errors import EmonetError, RequestError

CLIPS, FAILED = 61, (5, 40)  # the last of the shards is shorter


@pytest.fixture(scope="module")
def make_store(
    fill_store: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[FeatureStore, np.ndarray]]:
    """A store whose states and scores say which row they are of, and its states."""

    def make(
        clips: int = CLIPS,
        *,
        failed: tuple[int, ...] = (),
        frames: int = 25,
        width: int = 4,
        shard_clips: int = 8,
        codec: Any = "lossless",
    ) -> tuple[FeatureStore, np.ndarray]:
        rows = [Clip(f"c/{row}", b"x", "s/0", "train", scores={"anger": row % 5}) for row in range(clips)]
        corpus = Corpus("numbered", tuple(rows))
        record = ExtractionRecord(
            corpus="numbered", corpus_fingerprint="f", clips=clips, encoder="none", encoder_digest="d",
            window_seconds=frames / 50, frames=frames, width=width, mels=80, precision="float32", batch_size=1,
            shard_clips=shard_clips, codec=codec,
        )  # fmt: skip
        states = np.random.default_rng(clips).random(record.shape, np.float32).astype(np.float16)
        states[:, 0, 0] = np.arange(clips)
        path = tmp_path_factory.mktemp("loader") / "store.zarr"
        fill_store(path, record, corpus, states, failed=dict.fromkeys(failed, "0 bytes"))
        return FeatureStore.open(path), states

    return make


@pytest.fixture(scope="module")
def numbered(make_store: Callable[..., tuple[FeatureStore, np.ndarray]]) -> tuple[FeatureStore, np.ndarray]:
    return make_store(failed=FAILED)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The rows of every `FeatureStore.read` since."""
    seen: list[np.ndarray] = []
    read = FeatureStore.read

    def recorded(store: FeatureStore, rows: Any, **options: Any) -> np.ndarray:
        states = read(store, rows, **options)
        seen.append(np.array(rows))
        return states

    monkeypatch.setattr(FeatureStore, "read", recorded)
    return seen


def loader_of(store: FeatureStore, **changes: Any) -> ShuffledClips:
    return ShuffledClips(store, **{"batch_size": 4, "seed": 0, "pool_clips": 16, "run_clips": 3, **changes})


def rows_of(batches: Any) -> list[list[int]]:
    return [batch.rows.tolist() for batch in batches]


def is_reading() -> bool:
    return any(thread.name == "prefetch" for thread in threading.enumerate())


def wait_for(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.005)


def test_an_epoch_has_each_clip_once_with_its_own_states(numbered: tuple[FeatureStore, np.ndarray]) -> None:
    store, states = numbered
    loader = loader_of(store)
    batches = 0
    seen: list[int] = []
    for rows, found in loader:
        np.testing.assert_array_equal(found, states[rows])
        assert store.scores(rows)[:, store.targets.index("anger")].tolist() == (rows % 5).tolist()
        seen += rows.tolist()
        batches += 1
    assert sorted(seen) == store.rows().tolist() == sorted(set(range(CLIPS)) - set(FAILED))
    assert batches == len(loader) == 15
    assert seen != sorted(seen)
    assert not is_reading()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch_size=st.integers(1, 30),
    more=st.integers(0, 60),
    run_clips=st.integers(1, 10),
    world=st.sampled_from([1, 2, 3]),
    stop=st.floats(0, 1),
    seed=st.integers(0, 3),
)
@pytest.mark.slow
def test_what_was_interrupted_goes_on(
    numbered: tuple[FeatureStore, np.ndarray],
    reads: list[np.ndarray],
    batch_size: int,
    more: int,
    run_clips: int,
    world: int,
    stop: float,
    seed: int,
) -> None:
    store, states = numbered
    chosen = store.rows()[:57]  # 57 = 3 * 19; two ranks cannot share an odd number in batches of one
    world = 1 if batch_size == 1 and world == 2 else world
    arguments = {"batch_size": batch_size, "pool_clips": batch_size + more, "run_clips": run_clips, "seed": seed}
    seen: list[int] = []
    for rank in range(world):
        make = lambda rank=rank: loader_of(store, rows=chosen, rank=rank, world=world, **arguments)  # noqa: E731
        whole = rows_of(make())
        first = make()
        begun = list(islice(first, round(stop * len(first))))
        second = make()
        second.load_state_dict(first.state_dict())
        reads.clear()
        rest = list(second)
        if len(begun) == len(first):  # that epoch is over: this is the next one
            assert second.state_dict()["epoch"] == 2
            rest = []
        else:
            assert sorted(np.concatenate(reads).tolist()) == sorted(np.concatenate([b.rows for b in rest]).tolist())
        assert rows_of(begun) + rows_of(rest) == whole
        for batch in begun + rest:
            np.testing.assert_array_equal(batch.states, states[batch.rows])
            seen += batch.rows.tolist()
    assert sorted(seen) == chosen.tolist()


def test_each_iteration_is_an_epoch_of_its_own(numbered: tuple[FeatureStore, np.ndarray]) -> None:
    store, _ = numbered
    loader = loader_of(store)
    epochs = [rows_of(loader) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert rows_of(loader_of(store)) == epochs[0]
    assert rows_of(loader_of(store, seed=1)) != epochs[0]
    loader.set_epoch(1)
    assert loader.state_dict()["epoch"] == 1
    assert rows_of(loader) == epochs[1]
    assert loader.state_dict()["epoch"] == 2
    next(iter(loader))  # one that is left begins, and the next iteration is another one
    assert loader.state_dict()["batches"] == 1
    iter(loader)  # one that is not even begun does not count
    fourth = rows_of(loader)
    assert loader.state_dict()["epoch"] == 4
    loader.set_epoch(3)
    assert rows_of(loader) == fourth


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork")  # the risk is what is tested
def test_worker_processes_give_the_same_batches(
    numbered: tuple[FeatureStore, np.ndarray], reads: list[np.ndarray], context: str
) -> None:
    store, states = numbered
    alone = loader_of(store)
    expected = [rows_of(alone), rows_of(alone)]
    reads.clear()
    loader = loader_of(store)
    workers = DataLoader(
        loader, batch_size=None, num_workers=2, multiprocessing_context=context, persistent_workers=True
    )
    assert len(workers) == len(loader)
    for epoch in range(2):
        loader.set_epoch(epoch)
        batches = list(workers)
        assert all(isinstance(batch, ClipBatch) and isinstance(batch.states, torch.Tensor) for batch in batches)
        assert rows_of(batches) == expected[epoch]
        for rows, found in batches:
            np.testing.assert_array_equal(found.numpy(), states[rows.numpy()])
    loader.load_state_dict({**loader.state_dict(), "epoch": 1, "batches": 7})
    assert rows_of(workers) == expected[1][7:]
    assert reads == [], "the main process reads nothing"


def test_a_store_in_use_survives_a_fork(numbered: tuple[FeatureStore, np.ndarray]) -> None:
    """Workers start while this process has threads of its own in the middle of an epoch."""
    store, _ = numbered
    loader = loader_of(store)
    running = iter(loader)
    next(running)
    workers = DataLoader(loader_of(store), batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert rows_of(workers) == rows_of(loader_of(store))
    assert len(list(running)) == len(loader) - 1


def test_ranks_share_the_clips_and_have_as_many_batches(numbered: tuple[FeatureStore, np.ndarray]) -> None:
    store, _ = numbered
    ranks = [rows_of(loader_of(store, rank=rank, world=3)) for rank in range(3)]
    assert [len(rank) for rank in ranks] == [5, 5, 5]
    assert sorted(row for rank in ranks for batch in rank for row in batch) == store.rows().tolist()
    states = [loader_of(store, rank=rank, world=3).state_dict() for rank in range(3)]
    assert states[0] == states[1] == states[2], "any rank's checkpoint is good for all"


def test_the_next_pool_is_read_while_this_one_goes_out(
    numbered: tuple[FeatureStore, np.ndarray], reads: list[np.ndarray]
) -> None:
    store, _ = numbered
    batches = iter(loader_of(store))
    batch = next(batches)
    wait_for(lambda: len(reads) == 2)
    for _ in range(2):
        batch = next(batches)
    time.sleep(0.1)
    assert len(reads) == 2, "and no further one: two pools are the limit"
    while batch.rows[0] not in reads[1]:
        batch = next(batches)
    wait_for(lambda: len(reads) == 3)
    del batches
    assert not is_reading()


def test_a_batch_of_the_last_epoch_does_not_hold_the_next_one_up(
    numbered: tuple[FeatureStore, np.ndarray], reads: list[np.ndarray]
) -> None:
    """Both pools are in use until the caller lets that batch go; then the next one is read without being asked for."""
    store, _ = numbered
    loader = loader_of(store)
    batch = None
    for batch in loader:  # noqa: B007 - the last one stays
        pass
    reads.clear()
    batches = iter(loader)
    following = next(batches)
    time.sleep(0.1)
    assert len(reads) == 1
    del batch
    wait_for(lambda: len(reads) == 2)
    assert following.rows.size
    del batches


@pytest.fixture
def held_bytes() -> Iterator[Callable[[], int]]:
    """How much memory Python and NumPy hold now that they did not hold before the test; arrays count whole."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_memory_stays_within_its_bound(
    make_store: Callable[..., tuple[FeatureStore, np.ndarray]], held_bytes: Callable[[], int]
) -> None:
    """Two pools of 16 clips of 0.6 MB, also after a caller has kept all 96 clips."""
    store, _ = make_store(96, frames=200, width=1500, shard_clips=16, codec="none")
    loader = loader_of(store)
    assert loader.memory_bytes == 2 * 16 * store.clip_bytes == 19_200_000
    slack = 3 * store.clip_bytes  # what reading needs: a part of a clip per thread, the order, tables
    before = held_bytes()
    tracemalloc.reset_peak()
    for batch in loader:
        assert batch.states.size
    del batch
    assert 0.9 * loader.memory_bytes < tracemalloc.get_traced_memory()[1] - before <= loader.memory_bytes + slack
    kept = list(loader)
    assert held_bytes() - before > 96 * store.clip_bytes
    del kept
    assert held_bytes() - before <= loader.memory_bytes + slack, "given back"
    loader.release()
    assert held_bytes() - before <= slack


def test_what_the_caller_keeps_is_never_written_to(numbered: tuple[FeatureStore, np.ndarray]) -> None:
    store, states = numbered
    loader = loader_of(store, pool_clips=8)
    rows, tensors = [], []
    for epoch in range(2):
        for number, batch in enumerate(loader):
            if (number + epoch) % 2:
                rows.append(batch.rows[1:])
                tensors.append(torch.from_numpy(batch.states)[1:])  # a view of a view
    kept = torch.cat(tensors).numpy()
    np.testing.assert_array_equal(kept, states[np.concatenate(rows)])


def test_a_consumer_may_change_its_batch(numbered: tuple[FeatureStore, np.ndarray]) -> None:
    store, states = numbered
    for rows, found in loader_of(store):
        np.testing.assert_array_equal(found, states[rows])
        found[:] = 0


@pytest.mark.parametrize(("clips", "changes"), [(1, {}), (3, {}), (8, {"pool_clips": 4}), (9, {"batch_size": 9})])
def test_small_stores(
    make_store: Callable[..., tuple[FeatureStore, np.ndarray]], clips: int, changes: dict[str, Any]
) -> None:
    store, states = make_store(clips)
    batches = list(loader_of(store, **changes))
    found = np.concatenate([batch.rows for batch in batches])
    assert sorted(found.tolist()) == list(range(clips))
    np.testing.assert_array_equal(np.concatenate([batch.states for batch in batches]), states[found])


def test_leaving_early_ends_the_thread(numbered: tuple[FeatureStore, np.ndarray]) -> None:
    store, _ = numbered
    for _batch in loader_of(store, pool_clips=4):
        assert is_reading()
        break
    assert not is_reading()


def test_a_shard_that_is_lost_is_reported(make_store: Callable[..., tuple[FeatureStore, np.ndarray]]) -> None:
    store, _ = make_store(24)
    shard_file(store.path, 1).unlink()
    with pytest.raises(EmonetError, match=r"the states of clip 'c/\d+' cannot be read: its chunk is missing"):
        list(loader_of(store, pool_clips=4))
    assert not is_reading()


def test_wrong_arguments_are_named(numbered: tuple[FeatureStore, np.ndarray]) -> None:
    store, _ = numbered
    with pytest.raises(RequestError, match=r"(?s)batch_size is 0.*where: +arguments of ShuffledClips"):
        loader_of(store, batch_size=0)
    with pytest.raises(RequestError, match="there are no rows"):
        loader_of(store, rows=[])
    with pytest.raises(RequestError, match="a row occurs twice"):
        loader_of(store, rows=[3, 4, 3])
    for row in (-1, CLIPS):
        with pytest.raises(RequestError, match=rf"(?s)no such row.*expected: +0 to {CLIPS - 1}.*found: +{row}"):
            loader_of(store, rows=[3, row])
    with pytest.raises(RequestError, match=r"clip 'c/5' has no states: 0 bytes"):
        list(loader_of(store, rows=[4, 5]))


def test_a_place_in_other_batches_is_refused(numbered: tuple[FeatureStore, np.ndarray]) -> None:
    store, _ = numbered
    loader = loader_of(store)
    next(iter(loader))
    place = loader.state_dict()
    other = loader_of(store, batch_size=5, world=2)
    with pytest.raises(RequestError, match=r"(?s)another order.*- batch_size: 4 then, 5 now.*- world: 1 then, 2 now"):
        other.load_state_dict(place)
    with pytest.raises(RequestError, match=r"(?s)no such place.*expected: +0 to 15 batches.*epoch 0, batch 16"):
        loader.load_state_dict({**place, "batches": 16})
    other.load_state_dict({**place, "epoch": 3, "batches": 0})  # between two epochs anything may change
    assert other.state_dict()["epoch"] == 3


def test_the_loader_makes_no_copies(numbered: tuple[FeatureStore, np.ndarray]) -> None:
    store, _ = numbered
    loader = loader_of(store, pool_clips=8)
    starts = [batch.states.__array_interface__["data"][0] for batch in loader]
    again = [batch.states.__array_interface__["data"][0] for batch in loader]
    assert len(set(starts)) == len(set(again)) == 4, "two pools of two batches, read into over and over"
    assert set(starts) == set(again)
