from __future__ import annotations

import errno
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache.store import ExtractionRecord, FeatureStore, shard_file
from cache.writing import Notices, Part, StoreWriter, disk, writer
from emonet.clips import Corpus
from emonet.errors import EmonetError, RequestError
from emonet.runtime import durable

Make = Callable[..., Any]
ROOT = Path(__file__).parents[3]


@pytest.fixture
def corpus(make_corpus: Make) -> Corpus:
    return make_corpus(6)


@pytest.fixture
def record(make_record: Make, corpus: Corpus) -> ExtractionRecord:
    return make_record(corpus)


def put(target: StoreWriter, shard: int, states: np.ndarray) -> None:
    sink = target.begin(shard)
    for position, row in enumerate(sink.rows):
        sink.put(position, states[row], 0.5)
    sink.commit()
    target.flush()


def test_a_second_writer_in_one_process_is_refused(tmp_path: Path, record: ExtractionRecord, corpus: Corpus) -> None:
    path = tmp_path / "s.zarr"
    with StoreWriter(path, record, corpus), pytest.raises(EmonetError, match=r"(?s)this process is writing.*s\.zarr"):
        StoreWriter(path, record, corpus).__enter__()
    with StoreWriter(path, record, corpus):
        pass  # the lock is free again


# Claims shards of a store, one for each line on stdin, and says which; "force" asks for the store anew.
OTHER = """
import pickle, sys
from pathlib import Path
import numpy as np
from cache.writing.writer import StoreWriter

path, record, corpus = pickle.loads(sys.stdin.buffer.read(int(sys.argv[1])))
with StoreWriter(path, record, corpus, force=sys.argv[2] == "force") as writer:
    claims = writer.claims()
    print("open", flush=True)
    for line in sys.stdin:
        print(next(claims), flush=True)
"""


def another(path: Path, record: ExtractionRecord, corpus: Corpus, mode: str = "join") -> subprocess.Popen[bytes]:
    """Another process that writes the store."""
    content = pickle.dumps((path, record, corpus))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(len(content)), mode],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(content)
    process.stdin.flush()
    return process


def ask(process: subprocess.Popen[bytes]) -> int:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"next\n")
    process.stdin.flush()
    return int(process.stdout.readline())


def test_two_processes_share_the_shards_and_a_dead_one_loses_its_claims(
    tmp_path: Path, make_record: Make, corpus: Corpus, some_states: Make
) -> None:
    path, record, states = tmp_path / "s.zarr", make_record(corpus, shard_clips=1), some_states(6)
    with another(path, record, corpus) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        assert [ask(other), ask(other)] == [0, 1]
        with StoreWriter(path, record, corpus) as mine:
            claims = mine.claims()
            for shard in (2, 3, 4, 5):
                assert next(claims) == shard
                put(mine, shard, states)
            assert mine.pending() == [0, 1]
            other.kill()
            for shard in claims:  # it waits for the other, sees it die, and takes over
                put(mine, shard, states)
            assert not mine.pending()
            mine.finish()
    np.testing.assert_array_equal(FeatureStore.open(path).read(range(6)), states)


def test_a_store_that_another_process_writes_is_not_made_anew(
    tmp_path: Path, record: ExtractionRecord, corpus: Corpus
) -> None:
    path = tmp_path / "s.zarr"
    with StoreWriter(path, record, corpus), another(path, record, corpus, "force") as other:
        _, complaint = other.communicate()
    assert other.returncode == 1
    assert b"another process is writing this store" in complaint
    assert path.is_dir()


def test_parts_of_a_job_array_split_the_shards(
    tmp_path: Path, make_record: Make, corpus: Corpus, some_states: Make
) -> None:
    path, record = tmp_path / "s.zarr", make_record(corpus, shard_clips=1)
    taken = []
    for index in (2, 0, 1):
        with StoreWriter(path, record, corpus, part=Part(3, index)) as target:
            for shard in target.claims():
                taken.append(shard)
                put(target, shard, some_states(6))
            assert (not target.pending()) == (index == 1)
    assert taken == [2, 5, 0, 3, 1, 4]


def test_a_part_does_not_start_anew_what_others_have_done(
    tmp_path: Path, make_record: Make, corpus: Corpus, some_states: Make
) -> None:
    path, record = tmp_path / "s.zarr", make_record(corpus, shard_clips=1)
    with StoreWriter(path, record, corpus, part=Part(2, 0)) as target:
        put(target, 0, some_states(6))
    with pytest.raises(RequestError, match=r"(?s)parts of a job array cannot each start anew.*--num-shards 2.*try: "):
        StoreWriter(path, record, corpus, part=Part(2, 1), force=True).__enter__()
    with StoreWriter(path, record, corpus) as target:
        assert 0 not in target.pending()


def test_a_part_that_is_not_there_is_refused() -> None:
    with pytest.raises(RequestError, match=r"(?s)no such part.*--shard-index 0 to 3.*--num-shards is 4.*found: +4"):
        Part(4, 4)


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


def test_a_copy_that_has_lost_its_empty_folder_goes_on(
    tmp_path: Path, record: ExtractionRecord, corpus: Corpus, some_states: Make
) -> None:
    """Neither git nor an object store keeps `shards` of a store whose extraction was killed before its first shard."""
    path, states = tmp_path / "s.zarr", some_states(6)
    with StoreWriter(path, record, corpus):
        pass
    writer.marker_file(path, 0).parent.rmdir()
    with StoreWriter(path, record, corpus) as second:
        put(second, 0, states)
        put(second, 1, states)
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


@pytest.mark.parametrize("content", [None, "{"])
def test_force_replaces_a_store_that_has_lost_its_attributes(
    tmp_path: Path, record: ExtractionRecord, corpus: Corpus, content: str | None
) -> None:
    path = tmp_path / "s.zarr"
    with StoreWriter(path, record, corpus):
        pass
    if content is None:
        (path / "zarr.json").unlink()
    else:
        (path / "zarr.json").write_text(content)
    with pytest.raises(EmonetError, match=r"(?s)the store's zarr\.json is .*try: +emonet extract --force"):
        StoreWriter(path, record, corpus).__enter__()
    with StoreWriter(path, record, corpus, force=True) as anew:
        assert anew.pending() == [0, 1]
    (path / "zarr.json").unlink()
    (path / "states" / "zarr.json").unlink()  # now it may be anything
    with pytest.raises(EmonetError, match=r"(?s)zarr\.json is missing.*move what it holds elsewhere"):
        StoreWriter(path, record, corpus, force=True).__enter__()
    assert (path / "shards").is_dir()


def test_force_leaves_another_zarr_group_alone(tmp_path: Path, record: ExtractionRecord, corpus: Corpus) -> None:
    path = tmp_path / "s.zarr"
    with StoreWriter(path, record, corpus):
        pass
    (path / "zarr.json").write_text('{"attributes": {"format": "another"}}')
    with pytest.raises(RequestError, match="this Zarr group is not a feature store of emonet"):
        StoreWriter(path, record, corpus, force=True).__enter__()
    assert (path / "states" / "zarr.json").is_file()


@pytest.mark.parametrize(
    ("states", "message"),
    [
        (np.ones((50, 9), np.float16), r"(?s)do not fit the shard.*float16 \(50, 8\).*\(50, 9\)"),
        (np.ones((49, 8), np.float16), r"(?s)do not fit the shard.*float16 \(50, 8\).*\(49, 8\)"),
    ],
)
def test_wrong_states_are_refused(
    tmp_path: Path, record: ExtractionRecord, corpus: Corpus, states: np.ndarray, message: str
) -> None:
    with (
        StoreWriter(tmp_path / "s.zarr", record, corpus) as target,
        pytest.raises(EmonetError, match=message),
    ):
        target.begin(0).put(0, states, 1.0)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_states_that_are_not_finite_are_refused(
    tmp_path: Path, record: ExtractionRecord, corpus: Corpus, value: float
) -> None:
    states = np.full((50, 8), 65504, np.float16)
    with StoreWriter(tmp_path / "s.zarr", record, corpus) as target:
        sink = target.begin(0)
        for position in range(len(sink.rows)):
            states = states.copy()
            states[7, 3] = value if position == 2 else -65504
            sink.put(position, states, 1.0)
        sink.commit()
        with pytest.raises(EmonetError, match=r"(?s)not finite.*row 2"):
            target.flush()
        assert target.pending() == [0, 1]


def test_a_shard_with_clips_missing_is_refused(tmp_path: Path, record: ExtractionRecord, corpus: Corpus) -> None:
    with StoreWriter(tmp_path / "s.zarr", record, corpus) as target:
        sink = target.begin(0)
        sink.fail(1, "0 bytes")
        with pytest.raises(EmonetError, match=r"(?s)not complete.*4 clips.*found: +1"):
            sink.commit()


def test_a_disk_without_space_is_noticed_before_the_start(
    tmp_path: Path, record: ExtractionRecord, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(EmonetError, match=r"(?s)too little space.*0\.07 GB free.*0\.00 GB"):
        StoreWriter(tmp_path / "s.zarr", record, corpus).__enter__()


def test_the_space_that_a_tier_takes_is_what_must_be_free(
    tmp_path: Path, make_record: Make, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = 6 * (50 * 8 + 8 * 4)  # a byte for each value, and a scale for each channel
    usage = shutil.disk_usage(tmp_path)._replace(free=writer.RESERVE + small)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: usage)
    with StoreWriter(tmp_path / "small.zarr", make_record(corpus, codec="int8"), corpus):
        pass
    with pytest.raises(EmonetError, match="too little space"):
        StoreWriter(tmp_path / "large.zarr", make_record(corpus), corpus).__enter__()
    usage = usage._replace(free=usage.free - 1)
    with pytest.raises(EmonetError, match="too little space"):
        StoreWriter(tmp_path / "small.zarr", make_record(corpus, codec="int8"), corpus).__enter__()


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
        with pytest.raises(EmonetError, match=r"(?s)marker of shard 1.*00001\.json.*emonet store repair"):
            target.finish()


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    durable.write(path, b"old")
    monkeypatch.setattr(durable.os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(errno.EIO, "broken disk")))
    with pytest.raises(OSError, match="broken disk"):
        durable.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_store_behind_a_link_is_the_same_store(
    tmp_path: Path, record: ExtractionRecord, corpus: Corpus, some_states: Make
) -> None:
    disk, link = tmp_path / "disk" / "real.zarr", tmp_path / "s.zarr"
    disk.parent.mkdir()
    link.symlink_to(disk)
    with StoreWriter(link, record, corpus) as first:
        put(first, 0, some_states(6))
        with pytest.raises(EmonetError, match="this process is writing this store already"):
            StoreWriter(disk, record, corpus).__enter__()
    with StoreWriter(link, record, corpus, force=True) as anew:
        assert anew.pending() == [0, 1]
    assert link.is_symlink()
    assert sorted(entry.name for entry in disk.parent.iterdir()) == [".real.zarr.lock", "real.zarr"]
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_what_others_have_written_is_looked_for_now_and_then(
    tmp_path: Path, make_record: Make, corpus: Corpus, some_states: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "LOOK", 3600.0)
    with StoreWriter(tmp_path / "s.zarr", make_record(corpus, shard_clips=1), corpus) as target:
        put(target, 3, some_states(6))
        assert target.pending(fresh=False) == [0, 1, 2, 4, 5]  # its own at once
        writer.marker_file(target.path, 0).touch()
        assert target.pending(fresh=False) == [0, 1, 2, 4, 5]
        assert next(target.claims()) == 1  # nothing is done twice for that
        writer.marker_file(target.path, 2).touch()
        assert target.pending(fresh=False) == [1, 2, 4, 5]
        assert target.pending() == [1, 4, 5]
        monkeypatch.setattr(writer, "LOOK", 0.0)
        writer.marker_file(target.path, 4).touch()
        assert target.pending(fresh=False) == [1, 5]


def test_the_former_store_stays_until_the_new_one_can_be_made(
    tmp_path: Path, record: ExtractionRecord, corpus: Corpus, make_record: Make, some_states: Make
) -> None:
    path, told = tmp_path / "s.zarr", []

    def no_memory() -> np.ndarray:
        raise EmonetError("no memory")

    def tell() -> None:
        told.append(len(list((path / "shards").glob("*"))))

    with StoreWriter(path, record, corpus) as first:
        put(first, 0, some_states(6))
    speech = make_record(corpus, kept="speech")
    with pytest.raises(EmonetError, match="no memory"):
        StoreWriter(path, speech, corpus, force=True, silence=no_memory, notices=Notices(replacing=tell)).__enter__()
    with pytest.raises(EmonetError, match="no memory"):
        StoreWriter(path, record, corpus, force=True, notices=Notices(replacing=no_memory)).__enter__()
    assert [entry.name for entry in tmp_path.iterdir() if "partial" in entry.name] == []
    with StoreWriter(path, record, corpus, notices=Notices(replacing=tell)) as same:
        assert same.pending() == [1]
    assert told == []
    with StoreWriter(path, record, corpus, force=True, notices=Notices(replacing=tell)) as anew:
        assert anew.pending() == [0, 1]
    assert told == [1]  # while the former one was there


def test_a_store_that_another_process_writes_is_not_discarded(
    tmp_path: Path, record: ExtractionRecord, corpus: Corpus
) -> None:
    path = tmp_path / "s.zarr"
    with StoreWriter(path, record, corpus) as mine:
        with another(path, record, corpus) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"open\n"
            mine.discard()
            assert path.is_dir()
            other.kill()
        mine.discard()
        assert not path.exists()
        with pytest.raises(EmonetError, match=r"(?s)removed while it was written.*s\.zarr.*no such folder.*try: "):
            mine.require_there()


def test_news_tell_each_shard_once_whoever_wrote_it(
    tmp_path: Path, make_record: Make, corpus: Corpus, some_states: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "LOOK", 3600.0)
    with StoreWriter(tmp_path / "s.zarr", make_record(corpus, shard_clips=1), corpus) as target:
        assert target.news() == []
        put(target, 3, some_states(6))
        put(target, 1, some_states(6))
        assert target.news() == [1, 3]  # its own at once
        writer.marker_file(target.path, 0).touch()
        assert target.news() == []
        assert target.news(fresh=True) == [0]
        assert target.news(fresh=True) == []
        writer.marker_file(target.path, 2).touch()
        assert next(target.claims()) == 4  # it has seen that shard 2 is there
        assert target.news() == [2]
        (target.path / "shards" / "._00005.json").touch()  # as macOS does on network drives
        assert target.news(fresh=True) == []
        writer.marker_file(target.path, 0).unlink()  # taken away by somebody
        assert 0 in target.pending()


def test_a_listing_that_takes_long_is_made_rarely(
    tmp_path: Path, make_record: Make, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, listed, markers = [100.0], [0], writer.marked_shards

    def slow(path: Path) -> set[int]:
        listed[0] += 1
        now[0] += 3.0  # seconds
        return markers(path)

    with StoreWriter(tmp_path / "s.zarr", make_record(corpus), corpus) as target:
        monkeypatch.setattr(writer, "marked_shards", slow)
        monkeypatch.setattr(writer.time, "monotonic", lambda: now[0])
        target.pending()
        for _ in range(60):
            now[0] += 1.0
            target.news()
        assert listed[0] == 2  # one twentieth of the time, not each second
