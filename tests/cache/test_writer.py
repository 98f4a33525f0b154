from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache import writer
from cache.record import ExtractionRecord
from cache.store import FeatureStore, shard_file
from cache.writer import StoreWriter
from emonet import durable
from emonet.clips import Corpus
from emonet.errors import EmonetError, RequestError

Make = Callable[..., Any]


@pytest.fixture
def corpus(make_corpus: Make) -> Corpus:
    return make_corpus(6)


@pytest.fixture
def record(make_record: Make, corpus: Corpus) -> ExtractionRecord:
    return make_record(corpus)


def put(target: StoreWriter, shard: int, states: np.ndarray) -> None:
    rows = target.record.rows(shard)
    target.write(shard, states[rows.start : rows.stop], [0.5] * len(rows), {})


def test_a_second_writer_is_refused(tmp_path: Path, record: ExtractionRecord, corpus: Corpus) -> None:
    path = tmp_path / "s.zarr"
    with StoreWriter(path, record, corpus), pytest.raises(EmonetError, match=r"(?s)another process.*s\.zarr.*wait"):
        StoreWriter(path, record, corpus).__enter__()
    with StoreWriter(path, record, corpus):
        pass  # the lock is free again


def test_a_finished_shard_is_not_pending(
    tmp_path: Path, record: ExtractionRecord, corpus: Corpus, some_states: Make
) -> None:
    with StoreWriter(tmp_path / "s.zarr", record, corpus) as first:
        assert first.pending() == [0, 1]
        put(first, 1, some_states(6))
    with StoreWriter(tmp_path / "s.zarr", record, corpus) as second:
        assert second.pending() == [0]
        with pytest.raises(EmonetError, match="1 shards are not written yet"):
            second.finish()


def test_a_shard_without_its_marker_does_not_exist(
    tmp_path: Path, record: ExtractionRecord, corpus: Corpus, some_states: Make
) -> None:
    path, states = tmp_path / "s.zarr", some_states(6)
    with StoreWriter(path, record, corpus) as first:
        put(first, 0, states)
        put(first, 1, states)
        first.finish()
    writer.marker_file(path, 0).unlink()
    shard_file(path, 0).write_bytes(b"half a shard")
    leftover = shard_file(path, 0).with_suffix(".abc.partial")
    leftover.touch()
    with StoreWriter(path, record, corpus) as second:
        assert second.pending() == [0]
        assert not leftover.exists()
        with pytest.raises(RequestError, match="did not finish"):
            FeatureStore.open(path)  # in flux: the old table is gone
        put(second, 0, states)
        second.finish()
    np.testing.assert_array_equal(FeatureStore.open(path).read(range(6)), states)


def test_another_record_needs_force(
    tmp_path: Path, record: ExtractionRecord, corpus: Corpus, make_record: Make, some_states: Make
) -> None:
    path, wider = tmp_path / "s.zarr", make_record(corpus, width=16)
    with StoreWriter(path, record, corpus) as first:
        put(first, 0, some_states(6))
    with pytest.raises(RequestError, match=r"(?s)width: the store has 8, wanted 16.*--force"):
        StoreWriter(path, wider, corpus).__enter__()
    with StoreWriter(path, wider, corpus, force=True) as anew:
        assert anew.pending() == [0, 1]
    assert [entry.name for entry in tmp_path.iterdir() if "partial" in entry.name] == []


def test_force_removes_nothing_but_a_store(tmp_path: Path, record: ExtractionRecord, corpus: Corpus) -> None:
    path = tmp_path / "s.zarr"
    path.mkdir()
    (path / "thesis.tex").touch()
    with pytest.raises(RequestError, match="there is no feature store"):
        StoreWriter(path, record, corpus, force=True).__enter__()
    assert (path / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("states", "message"),
    [
        (np.ones((4, 50, 9), np.float16), r"(?s)do not fit the shard.*\(4, 50, 8\).*\(4, 50, 9\)"),
        (np.ones((3, 50, 8), np.float16), r"(?s)do not fit the shard.*\(4, 50, 8\).*\(3, 50, 8\)"),
        (np.full((4, 50, 8), np.inf, np.float16), "not finite"),
    ],
)
def test_wrong_states_are_refused(
    tmp_path: Path, record: ExtractionRecord, corpus: Corpus, states: np.ndarray, message: str
) -> None:
    with (
        StoreWriter(tmp_path / "s.zarr", record, corpus) as target,
        pytest.raises(EmonetError, match=message),
    ):
        target.write(0, states, [1.0] * 4, {})


def test_a_disk_without_space_is_noticed_before_the_start(
    tmp_path: Path, record: ExtractionRecord, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(EmonetError, match=r"(?s)too little space.*0\.07 GB free.*0\.00 GB"):
        StoreWriter(tmp_path / "s.zarr", record, corpus).__enter__()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_keeps_what_is_finished(
    tmp_path: Path,
    record: ExtractionRecord,
    corpus: Corpus,
    some_states: Make,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    path, states = tmp_path / "s.zarr", some_states(6)
    with StoreWriter(path, record, corpus) as target:
        put(target, 0, states)
        with monkeypatch.context() as patch:

            def full(*args: object) -> None:
                raise OSError(number, "No space left on device")

            patch.setattr(durable, "sync", full)
            with pytest.raises(EmonetError, match=r"(?s)disk is full; every finished shard is kept.*same command"):
                put(target, 1, states)
    with StoreWriter(path, record, corpus) as again:
        assert again.pending() == [1]
        put(again, 1, states)
        again.finish()
    np.testing.assert_array_equal(FeatureStore.open(path).read(range(6)), states)


def test_a_folder_that_may_not_be_written(
    tmp_path: Path, record: ExtractionRecord, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(writer, "create", refuse)  # a chmod does not stop root, who runs tests in containers
    with pytest.raises(RequestError, match=r"(?s)cannot be written.*Permission denied"):
        StoreWriter(tmp_path / "s.zarr", record, corpus).__enter__()


def test_a_damaged_marker_is_named(tmp_path: Path, record: ExtractionRecord, corpus: Corpus, some_states: Make) -> None:
    with StoreWriter(tmp_path / "s.zarr", record, corpus) as target:
        put(target, 0, some_states(6))
        put(target, 1, some_states(6))
        writer.marker_file(target.path, 1).write_text("{")
        with pytest.raises(EmonetError, match=r"(?s)marker of shard 1.*rm .*00001\.json"):
            target.finish()


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    durable.write(path, b"old")
    monkeypatch.setattr(durable.os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(errno.EIO, "broken disk")))
    with pytest.raises(OSError, match="broken disk"):
        durable.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
