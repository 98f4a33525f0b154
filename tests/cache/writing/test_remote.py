from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache.store import (
    ExtractionRecord,
    FeatureStore,
    RemotePath,
    marked_shards,
    metadata,
    place,
    read_markers,
    readable_markers,
)
from cache.writing import Notices, Part, StoreWriter, leases
from cache.writing.leases import StoreLeases
from emonet.clips import Clip, Corpus
from emonet.errors import EmonetError, RequestError
from emonet.objects import Objects
from tests.buckets import S3

CLIPS = 12
STALE = b'{"holder": "other/boot/1/17@1", "token": "t", "beat": 0}'  # a lease of a process of another machine


@pytest.fixture
def corpus() -> Corpus:
    return Corpus("made", tuple(Clip(f"m/{row}", b"x", "m/s", "train") for row in range(CLIPS)))


@pytest.fixture
def url(bucket: str) -> str:
    return f"{bucket}/here/s.zarr"


@pytest.fixture
def record(corpus: Corpus, make_record: Callable[..., ExtractionRecord]) -> ExtractionRecord:
    return make_record(corpus, shard_clips=3)


@pytest.fixture
def whole(
    tmp_path: Path, record: ExtractionRecord, corpus: Corpus, some_states: Callable[..., np.ndarray], fill_store: Any
) -> dict[str, bytes]:
    fill_store(tmp_path / "s.zarr", record, corpus, some_states(CLIPS))
    files = [file for file in (tmp_path / "s.zarr").rglob("*") if file.is_file()]
    return {file.relative_to(tmp_path / "s.zarr").as_posix(): file.read_bytes() for file in files}


def contents(url: str) -> dict[str, bytes]:
    objects = Objects.open(url)
    return {key: objects.read(key) for key, _ in objects.list()}


def around(url: str) -> Objects:
    """The leases."""
    return Objects.open(url.replace("s.zarr", ".s.zarr.leases"))


def remote(url: str) -> RemotePath:
    found = place(url)
    assert isinstance(found, RemotePath)
    return found


def fill(writer: StoreWriter, states: np.ndarray, shards: Iterator[int] | range, pause: float = 0.0) -> list[int]:
    done = []
    for shard in shards:
        sink = writer.begin(shard)
        for position, row in enumerate(sink.rows):
            sink.put(position, states[row], 0.5)
        time.sleep(pause)
        sink.commit()
        done.append(shard)
    writer.flush()
    return done


def test_one_shard_after_the_other_and_on_where_it_stopped(
    url: str, record: ExtractionRecord, corpus: Corpus, whole: dict[str, bytes], some_states: Callable[..., np.ndarray]
) -> None:
    states = some_states(CLIPS)
    with StoreWriter(url, record, corpus) as writer:
        fill(writer, states, iter([next(writer.claims())]))
    with pytest.raises(RequestError, match="did not finish"):
        FeatureStore.open(url)
    objects = Objects.open(url)
    objects.write("states/c/1/0/0", b"of a writer that was killed before its marker")
    replaced: list[int] = []
    with StoreWriter(url, record, corpus, notices=Notices(replacing=lambda: replaced.append(1))) as writer:
        assert writer.pending() == [1, 2, 3]
        fill(writer, states, writer.claims())
        writer.finish()
    assert contents(url) == whole
    assert not replaced


def test_two_writers_share_the_shards(
    url: str,
    record: ExtractionRecord,
    corpus: Corpus,
    whole: dict[str, bytes],
    some_states: Callable[..., np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leases, "WAIT", 0.02)
    states, done = some_states(CLIPS), {}

    def work(name: str) -> None:
        with StoreWriter(url, record, corpus) as writer:
            writer._rarer = 1.0
            done[name] = fill(writer, states, writer.claims(), pause=0.2)
            writer.finish()

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done["a"] + done["b"]) == [0, 1, 2, 3]
    assert done["a"]
    assert done["b"]
    assert contents(url) == whole


_KILLED = """
import sys, os, signal
sys.path.insert(0, sys.argv[2])
from cache.store import place
from cache.writing.leases import StoreLeases
with StoreLeases(place(sys.argv[1])) as held:
    assert held.join() and held.claim(0)
    print("held", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


_WRITES = """
import pickle, sys, time
from cache.writing import StoreWriter
record, corpus, states = pickle.loads(sys.stdin.buffer.read())
with StoreWriter(sys.argv[1], record, corpus) as writer:
    for shard in writer.claims():
        sink = writer.begin(shard)
        for position, row in enumerate(sink.rows):
            sink.put(position, states[row], 0.5)
            time.sleep(0.05)
        sink.commit()
"""


@pytest.mark.slow  # a new interpreter
def test_a_writer_that_is_killed_loses_no_shard(
    url: str, record: ExtractionRecord, corpus: Corpus, whole: dict[str, bytes], some_states: Callable[..., np.ndarray]
) -> None:
    states, path = some_states(CLIPS), place(url)
    with subprocess.Popen([sys.executable, "-c", _WRITES, url], stdin=subprocess.PIPE, cwd=Path.cwd()) as child:
        assert child.stdin is not None
        child.stdin.write(pickle.dumps((record, corpus, states)))
        child.stdin.close()
        while child.poll() is None and len(marked_shards(path)) < 2:
            time.sleep(0.01)
        child.kill()
    left = contents(url)
    assert 2 <= sum(key.startswith("shards/") for key in left) < 4
    assert {name: content for name, content in whole.items() if name in left} == left
    with StoreWriter(url, record, corpus) as writer:
        begun = time.monotonic()
        fill(writer, states, writer.claims())
        assert time.monotonic() - begun < leases.LEASE / 2  # its lease is known to be that of a dead process
        writer.finish()
    assert contents(url) == whole


@pytest.mark.slow  # a new interpreter
def test_what_a_killed_process_of_this_machine_held_is_free_at_once(url: str) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, url, str(Path.cwd())], capture_output=True, text=True, timeout=60, check=False
    )
    assert "held" in killed.stdout, killed.stderr
    with StoreLeases(remote(url)) as held:
        assert held.join()
        assert held.claim(0)


@pytest.mark.slow  # two waits until a lease has run out
def test_a_lease_of_elsewhere_runs_out_when_it_is_not_renewed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE", 0.6)
    monkeypatch.setattr(leases, "RENEW", 0.1)
    around(url).write("shards/00000/0", STALE)
    with StoreLeases(remote(url)) as one, StoreLeases(remote(url)) as two:
        assert one.claim(1)
        assert not one.claim(0)
        assert not two.claim(0)
        time.sleep(0.8)
        assert [one.claim(0), two.claim(0)] == [True, False]  # one of both takes over
        assert not two.claim(1)  # the holder lives
        time.sleep(0.8)
        assert not two.claim(1)
        one.release(0)
        assert two.claim(0)
    assert list(around(url).list()) == []


def test_shards_are_claimed_at_once_with_as_many_requests_however_many_they_are(url: str, s3: S3) -> None:
    def requests(shards: int) -> int:
        with StoreLeases(remote(url)) as held:
            s3.requests.clear()
            assert held.claim_all(1, 0, range(shards)) == list(range(shards))
            return sum(method == "GET" for method, _, _ in s3.requests)

    assert requests(3) == requests(30)


def test_only_one_prepares(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "WAIT", 0.02)
    inside, waited, most = [], [], []

    def prepare() -> None:
        with StoreLeases(remote(url)) as held, held.preparing(lambda: waited.append(1)):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.1)
            inside.pop()

    threads = [threading.Thread(target=prepare) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]
    assert waited


def test_anew_and_something_else(
    url: str,
    record: ExtractionRecord,
    corpus: Corpus,
    whole: dict[str, bytes],
    fill_store: Any,
    some_states: Callable[..., np.ndarray],
    make_record: Callable[..., ExtractionRecord],
) -> None:
    fill_store(url, make_record(corpus, shard_clips=5), corpus, some_states(CLIPS))
    with pytest.raises(RequestError, match="shard_clips: the store has 5, wanted 3"), StoreWriter(url, record, corpus):
        pass
    fill_store(url, record, corpus, some_states(CLIPS), force=True)
    assert contents(url) == whole
    Objects.open(url.replace("s.zarr", "notes")).write("shards/x", b"no store")
    with pytest.raises(EmonetError, match=r"zarr.json is missing"):
        fill_store(url.replace("s.zarr", "notes"), record, corpus, some_states(CLIPS), force=True)


def test_a_store_that_was_removed_meanwhile(url: str, record: ExtractionRecord, corpus: Corpus) -> None:
    with StoreWriter(url, record, corpus) as writer:
        writer.discard()
        with pytest.raises(EmonetError, match=r"(?s)removed while it was written.*found: +nothing at this address"):
            writer.require_there()


@pytest.mark.slow
def test_force_is_refused_while_another_writes(url: str, record: ExtractionRecord, corpus: Corpus) -> None:
    with (
        StoreWriter(url, record, corpus),
        pytest.raises(EmonetError, match="another process is writing this store"),
        StoreWriter(url, record, corpus, force=True),
    ):
        pass


def test_a_bucket_that_may_only_be_read(url: str, s3: S3, record: ExtractionRecord, corpus: Corpus) -> None:
    s3.refuses = lambda method, path: method in ("PUT", "POST", "DELETE")
    with pytest.raises(RequestError, match="may not write here"), StoreWriter(url, record, corpus):
        pass


def test_no_bucket(s3: S3, record: ExtractionRecord, corpus: Corpus) -> None:
    with pytest.raises(RequestError, match="no such bucket"), StoreWriter("s3://nobody-made-it/s.zarr", record, corpus):
        pass


def test_a_put_that_fails_leaves_every_finished_shard(
    url: str,
    s3: S3,
    record: ExtractionRecord,
    corpus: Corpus,
    whole: dict[str, bytes],
    fill_store: Any,
    some_states: Callable[..., np.ndarray],
) -> None:
    s3.refuses = lambda method, path: method == "PUT" and "states/c/2/" in path
    with pytest.raises(RequestError, match="may not write here"):
        fill_store(url, record, corpus, some_states(CLIPS))
    left = contents(url)
    assert "shards/00002.json" not in left
    assert {name: content for name, content in whole.items() if name in left} == left
    s3.refuses = lambda method, path: False
    fill_store(url, record, corpus, some_states(CLIPS))
    assert contents(url) == whole


@pytest.mark.slow  # half a second of patience at each try
def test_a_server_that_stops_in_mid_way(
    record: ExtractionRecord, corpus: Corpus, some_states: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = S3()
    server.start()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    writer = StoreWriter(f"{server.bucket()}/s.zarr", record, corpus)

    def stopped() -> Iterator[int]:
        yield 0
        writer.flush()
        server.stop()
        yield from (1, 2)

    with pytest.raises(EmonetError, match="object store does not"), writer:
        fill(writer, some_states(CLIPS), stopped())


def test_a_writer_killed_elsewhere_stands_in_the_way_of_force_for_no_longer_than_its_lease(
    url: str, record: ExtractionRecord, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE", 0.3)
    monkeypatch.setattr(leases, "RENEW", 0.05)
    monkeypatch.setattr(leases, "WAIT", 0.05)
    with StoreWriter(url, record, corpus):
        pass
    around(url).write("writers/t/0", STALE)
    with StoreLeases(remote(url)) as held:
        assert not held.alone()
        assert held.alone(sure=True)
    around(url).write("writers/t/0", STALE)
    with (
        StoreWriter(url, record, corpus, force=True),  # it has waited
        pytest.raises(EmonetError, match="another process is writing"),
        StoreWriter(url, record, corpus, force=True),
    ):
        pass


def test_all_shards_are_handed_out_under_one_lease(
    url: str, s3: S3, record: ExtractionRecord, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE", 0.3)
    monkeypatch.setattr(leases, "RENEW", 0.05)
    monkeypatch.setattr(leases, "WAIT", 0.05)
    with StoreWriter(url, record, corpus) as first, StoreWriter(url, record, corpus) as second:
        assert second._locks.claim(2)
        assert first.claim_all() == [0, 1, 3]  # not those that another one is at
        assert [key for key, _ in around(url).list("shards")] == ["shards/00002/0"]
        second._locks.release(2)
        time.sleep(0.5)  # it is kept fresh
        assert list(second.claims(wait=False)) == []
        assert second.claim_all() == []
    around(url).write("parts/1-0/0", STALE)  # of a driver that was killed elsewhere
    with StoreWriter(url, record, corpus) as third:
        assert third.claim_all() == [0, 1, 2, 3]
    assert list(around(url).list()) == []


def test_parts_that_are_handed_out_do_not_overlap(
    url: str, record: ExtractionRecord, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "WAIT", 0.02)
    with (
        StoreWriter(url, record, corpus, part=Part(2, 0)) as even,
        StoreWriter(url, record, corpus, part=Part(2, 1)) as odd,
    ):
        assert even.claim_all() == [0, 2]
        assert odd.claim_all() == [1, 3]


def test_markers_are_asked_for_at_the_same_time_and_stay_in_order(
    url: str,
    record: ExtractionRecord,
    corpus: Corpus,
    some_states: Callable[..., np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with StoreWriter(url, record, corpus) as writer:
        fill(writer, some_states(CLIPS), writer.claims())
    monkeypatch.setattr(metadata, "_MARKERS_AHEAD", 3)
    found = read_markers(place(url), record, range(4))
    assert [marker.shard for marker in found] == [0, 1, 2, 3]
    Objects.open(url).delete(["shards/00002.json"])
    assert [marker.shard for marker in readable_markers(place(url), record)] == [0, 1, 3]
    with pytest.raises(EmonetError, match="the marker of shard 2"):
        list(read_markers(place(url), record, range(4)))
