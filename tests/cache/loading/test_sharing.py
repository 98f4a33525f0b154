from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cache.loading import SharedArray, SharedClips, SharedOrder, SharedReading, ShuffledClips, as_error
from cache.store import ExtractionRecord, FeatureStore
from emonet.clips import Clip, Corpus, Split
from emonet.errors import EmonetError

FRAMES, WIDTH = 25, 4


@pytest.fixture
def store(tmp_path: Path, fill_store: Callable[..., str]) -> FeatureStore:
    splits: list[Split] = ["train"] * 40 + ["validation"] * 11
    corpus = Corpus("made", tuple(Clip(f"c/{row}", b"x", f"s{row}", split) for row, split in enumerate(splits)))
    record = ExtractionRecord(
        corpus="made", corpus_fingerprint="f", clips=len(splits), encoder="none", encoder_digest="d",
        window_seconds=FRAMES / 50, frames=FRAMES, width=WIDTH, mels=80, precision="float32", batch_size=1, shard_clips=16,
    )  # fmt: skip
    states = np.random.default_rng(0).standard_normal((len(splits), FRAMES, WIDTH)).astype(np.float16)
    fill_store(tmp_path / "made.zarr", record, corpus, states, seconds=lambda row: FRAMES / 50)
    return FeatureStore.open(tmp_path / "made.zarr")


def order_of(store: FeatureStore, batch_size: int = 4) -> SharedOrder:
    alone = ShuffledClips(store, store.rows("train"), batch_size=batch_size, seed=1, pool_clips=max(8, batch_size))
    return SharedOrder(alone.order, store.rows("validation"))


class Reader:
    """One of several trainings, in a thread in place of a process."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.answers: queue.Queue[Exception | None] = queue.Queue()
        self.batches: list[tuple[list[int], np.ndarray]] = []
        self.error: Exception | None = None

    def train(self, order: SharedOrder, reading: SharedReading, epochs: int) -> None:
        def ask(pool: int) -> None:
            reading.ask(self.number, pool)
            if error := self.answers.get(timeout=30):
                raise error

        try:
            clips = SharedClips(order, reading.place, ask)
            for _ in range(epochs):
                for part in (clips.training, clips.validation):
                    self.batches += [(rows.tolist(), states.copy()) for rows, states in part()]
        except Exception as error:
            self.error = error
        finally:
            reading.leave(self.number)


def together(store: FeatureStore, order: SharedOrder, epochs: list[int], folder: Path) -> tuple[list[Reader], int]:
    readers = [Reader(number) for number in range(len(epochs))]
    answers = {reader.number: reader.answers.put for reader in readers}
    with SharedReading(store, order, answers, folder) as reading:
        threads = [
            threading.Thread(target=reader.train, args=(order, reading, count))
            for reader, count in zip(readers, epochs, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
    return readers, reading.pools


def alone(store: FeatureStore, epochs: int, batch_size: int = 4) -> Iterator[tuple[list[int], np.ndarray]]:
    loader = ShuffledClips(store, store.rows("train"), batch_size=batch_size, seed=1, pool_clips=max(8, batch_size))
    validation = store.rows("validation")
    for _ in range(epochs):
        for rows, states in loader:
            yield rows.tolist(), states.copy()
        for start in range(0, len(validation), batch_size):
            rows = validation[start : start + batch_size]
            yield rows.tolist(), store.read(rows)


@pytest.mark.parametrize("batch_size", [4, 64])
def test_all_readers_get_what_a_read_of_their_own_gives(store: FeatureStore, tmp_path: Path, batch_size: int) -> None:
    order = order_of(store, batch_size)
    readers, pools = together(store, order, [3, 3, 1], tmp_path)  # one ends early
    for reader, epochs in zip(readers, [3, 3, 1], strict=True):
        assert reader.error is None
        expected = list(alone(store, epochs, batch_size))
        assert [rows for rows, _ in reader.batches] == [rows for rows, _ in expected]
        for (_, mine), (_, theirs) in zip(reader.batches, expected, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert 3 * order.per_epoch <= pools <= 3 * order.per_epoch + 2, "read once for all of them"


def test_what_cannot_be_read_is_told_to_all(store: FeatureStore, tmp_path: Path) -> None:
    (store.path / "states/c/1/0/0").write_bytes(b"nothing")
    readers, _ = together(store, order_of(store), [1, 1], tmp_path)
    for reader in readers:
        assert isinstance(reader.error, EmonetError)
    assert "cannot be read: disk gone" in str(as_error(OSError("disk gone")))


def test_arrays_are_seen_by_all_that_open_them(tmp_path: Path) -> None:
    shared = SharedArray.of(np.arange(6.0).reshape(2, 3), tmp_path)
    other = shared.place.open()
    other[1, 2] = 7
    assert shared.array[1, 2] == 7
    shared.close()
    assert other[0, 1] == 1, "kept by whoever opened it"
    with pytest.raises(OSError, match="No such file"):
        shared.place.open()
    assert SharedArray.of(np.empty((0, 3)), tmp_path).place.open().shape == (0, 3)
