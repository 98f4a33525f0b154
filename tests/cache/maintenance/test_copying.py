from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cache.maintenance import copy_store, copying, describe, verify
from cache.store import FeatureStore, place
from cache.writing import written_at
from emonet.errors import EmonetError, RequestError
from emonet.objects import Objects
from emonet.runtime import durable
from tests.buckets import S3
from tests.cache.maintenance.damage import Made, contents, flip

ROOT = Path(__file__).parents[3]


def of(url: str) -> dict[str, bytes]:
    objects = Objects.open(url)
    return {key: objects.read(key) for key, _ in objects.list()}


@pytest.mark.parametrize(("codec", "frames"), [("lossless", "all"), ("int8", "all"), ("lossless", "speech")])
@pytest.mark.slow
def test_there_and_back_again(whole: Callable[..., Made], codec: str, frames: str, bucket: str, tmp_path: Path) -> None:
    made, url = whole(codec, frames), place(f"{bucket}/copies/s.zarr")
    seen: list[tuple[int, int]] = []
    there = copy_store(made.path, url, progress=lambda done, total, note="": seen.append((done, total)))
    assert of(str(url)) == contents(made.path)
    assert (there.shards, there.resumed, there.checked) == (4, 0, True)
    assert there.bytes == describe(made.path).bytes_stored
    assert seen[0] == (0, 10)
    assert seen[-1] == (10, 10)
    report = verify(url, deep=True)
    assert (report.problems, str(report.store)) == ((), str(url))
    back = copy_store(url, tmp_path / "back.zarr", check=False)
    assert contents(tmp_path / "back.zarr") == contents(made.path)
    assert not back.checked
    assert str(url) in back.model_dump_json()
    assert describe(url).bytes_stored == describe(made.path).bytes_stored


def test_it_goes_on_where_it_stopped_and_is_no_store_until_then(
    made: Made, bucket: str, s3: S3, tmp_path: Path
) -> None:
    url = place(f"{bucket}/s.zarr")
    s3.refuses = lambda method, path: method == "PUT" and "states/c/2" in path
    with pytest.raises(RequestError, match="may not write here"):
        copy_store(made.path, url)
    with pytest.raises(RequestError, match="did not finish"):
        FeatureStore.open(url)
    s3.refuses = lambda method, path: False
    s3.requests.clear()
    report = copy_store(made.path, url)
    assert report.resumed >= 2
    assert of(str(url)) == contents(made.path)
    assert sum(method == "PUT" and "states/c" in path for method, path, _ in s3.requests) == 4 - report.resumed
    again = copy_store(made.path, url)
    assert (again.resumed, again.bytes) == (4, 0)
    copy_store(url, tmp_path / "back.zarr", check=False)
    assert contents(tmp_path / "back.zarr") == contents(made.path)


def test_between_disks_and_over_what_was_cut(made: Made, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "copy.zarr"
    copy_store(made.path, target)
    assert contents(target) == contents(made.path)
    shard = target / "states/c/1/0/0"
    shard.write_bytes(shard.read_bytes()[:-5])
    # What a copy that was killed leaves half-written, in it and beside it.
    shard.with_name(f"0.1.1{durable.PARTIAL}").write_bytes(b"half")
    (target.parent / f".copy.zarr.1{durable.PARTIAL}" / "shards").mkdir(parents=True)
    assert copy_store(made.path, target).resumed == 3
    assert contents(target) == contents(made.path)
    assert not list(target.parent.rglob(f"*{durable.PARTIAL}"))


def test_damage_is_not_copied(made: Made, tmp_path: Path) -> None:
    flip(made.path / "states/c/1/0/0", 40)
    with pytest.raises(EmonetError, match=r"shard 1 of the store is damaged\n.*\n.*of chunk 0 of 3: its checksum"):
        copy_store(made.path, tmp_path / "copy.zarr")
    (made.path / "states/c/1/0/0").unlink()
    with pytest.raises(EmonetError, match=r"shard 1 of the store is damaged\n.*\n.*0 bytes, its marker says"):
        copy_store(made.path, tmp_path / "copy.zarr")
    with pytest.raises(RequestError, match="did not finish"):
        FeatureStore.open(tmp_path / "copy.zarr")


def test_a_copy_that_is_not_what_was_written_is_noticed(
    made: Made, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = place(f"{bucket}/s.zarr")
    files = written_at(url)
    put = files.put
    monkeypatch.setattr(files, "put", lambda name, parts: put(name, [parts[0][:-1] + b"?"]))
    monkeypatch.setattr(copying, "written_at", lambda path: files)
    with pytest.raises(EmonetError, match=r"shard \d of the copy is not what was written"):
        copy_store(made.path, url)


@pytest.mark.slow
def test_what_is_there_stays_unless_forced(made: Made, whole: Callable[..., Made], tmp_path: Path) -> None:
    other = whole("int8").path
    target = tmp_path / "copy.zarr"
    copy_store(other, target)
    with pytest.raises(RequestError, match="another store is where the copy shall lie"):
        copy_store(made.path, target)
    copy_store(made.path, target, force=True)
    assert contents(target) == contents(made.path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    with pytest.raises(RequestError, match=r"no readable zarr.json"):
        copy_store(made.path, tmp_path / "notes", force=True)
    (tmp_path / "empty").mkdir()
    copy_store(made.path, tmp_path / "empty")


def test_requests_that_cannot_work(made: Made, bucket: str, tmp_path: Path) -> None:
    for target in (made.path, made.path / "inner.zarr"):
        with pytest.raises(RequestError, match="cannot be copied into itself"):
            copy_store(made.path, target)
    with pytest.raises(RequestError, match="there is no feature store"):
        copy_store(place(f"{bucket}/nothing.zarr"), tmp_path / "copy.zarr")
    with pytest.raises(RequestError, match="no such bucket"):
        copy_store(made.path, place("s3://nobody-made-it/s.zarr"))
    (made.path / "clips.parquet").unlink()
    with pytest.raises(RequestError, match="did not finish"):
        copy_store(made.path, tmp_path / "copy.zarr")


def test_two_do_not_copy_to_one_place(made: Made, tmp_path: Path) -> None:
    files = written_at(tmp_path / "copy.zarr")
    with files.locks as locks:
        locks.join()
        with pytest.raises(EmonetError, match="writing this store already"):
            copy_store(made.path, tmp_path / "copy.zarr")


_HOLDS = """
import sys
from pathlib import Path
from cache.writing import StoreLocks
with StoreLocks(Path(sys.argv[1])) as locks:
    print(locks.join(), flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow  # a new interpreter
def test_two_processes_do_not_copy_to_one_place(made: Made, tmp_path: Path) -> None:
    target = tmp_path / "copy.zarr"
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDS, str(target)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as other:  # fmt: skip
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        with pytest.raises(EmonetError, match=r"(?s)another process is writing the copy.*copy\.zarr"):
            copy_store(made.path, target)
        assert not target.exists()
        other.kill()
    assert copy_store(made.path, target).resumed == 0
