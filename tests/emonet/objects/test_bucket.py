from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emonet.errors import EmonetError, RequestError
from emonet.objects import Objects
from emonet.objects import bucket as bucket_module
from emonet.objects import folder as folder_module
from tests.buckets import S3

_SHARED = settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
_NAMES = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=20).filter(
    lambda name: name.strip() == name and name not in (".", "..") and not set(name) & set("/\\")
)


@_SHARED
@given(name=_NAMES, content=st.binary(max_size=300))
def test_what_is_written_is_read(bucket: str, name: str, content: bytes) -> None:
    objects = Objects.open(f"{bucket}/a/b")
    objects.write(name, content)
    assert objects.read(name) == content
    assert objects.size(name) == len(content)
    assert dict(objects.list())[name] == len(content)
    objects.delete([name])
    assert list(objects.list()) == []


@_SHARED
@given(
    content=st.binary(min_size=1, max_size=200),
    ranges=st.lists(st.tuples(st.integers(0, 220), st.integers(0, 90)), max_size=8),
    near=st.integers(0, 30),
    part=st.integers(1, 60),
)
def test_ranges_are_slices(bucket: str, content: bytes, ranges: list[tuple[int, int]], near: int, part: int) -> None:
    objects = Objects.open(bucket)
    objects.write("x", content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_module, "_NEAR", near)
        patch.setattr(bucket_module, "PART", part)
        patch.setattr(Objects, "_part", part)
        found = objects.read_ranges("x", [start for start, _ in ranges], [size for _, size in ranges])
        assert objects.read("x") == content
    assert found == [content[start : start + size] for start, size in ranges]


def test_neighbours_are_one_request(bucket: str, s3: S3) -> None:
    objects = Objects.open(bucket)
    objects.write("x", bytes(5 << 20))
    s3.requests.clear()
    objects.read_ranges("x", [0, 100, 4 << 20], [100, 50, 10])
    assert sorted(asked for _, _, asked in s3.requests if asked) == ["bytes=0-149", "bytes=4194304-4194313"]


@pytest.mark.slow  # 20 MiB
def test_files_go_in_parts_and_come_back(bucket: str, s3: S3, tmp_path: Path) -> None:
    content = os.urandom(20 << 20)
    (tmp_path / "file").write_bytes(content)
    objects = Objects.open(bucket)
    objects.write("x", tmp_path / "file")
    assert sum(method == "PUT" for method, path, _ in s3.requests if path.endswith("/x")) == 3
    assert objects.read("x") == content


def test_of_several_that_create_one_succeeds(bucket: str) -> None:
    def create(number: int) -> int | None:
        try:
            Objects.open(bucket).write("claim", b"%d" % number, create=True)
        except FileExistsError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        won = [number for number in pool.map(create, range(8)) if number is not None]
    assert [b"%d" % number for number in won] == [Objects.open(bucket).read("claim")]


def test_a_child_is_a_folder_and_a_prefix_no_beginning_of_a_name(bucket: str) -> None:
    objects = Objects.open(bucket)
    for key in ("a/x", "a/b/y", "ab/z"):
        objects.write(key, b"1")
    assert sorted(objects.list("a")) == [("a/b/y", 1), ("a/x", 1)]
    assert sorted(objects.child("a").list()) == [("b/y", 1), ("x", 1)]
    assert objects.child("a").child("b").url == f"{bucket}/a/b"


def test_what_does_not_exist(bucket: str) -> None:
    objects = Objects.open(bucket)
    assert objects.size("x") is None
    objects.delete(["x", "y"])
    for read in (lambda: objects.read("x"), lambda: objects.read_range("x", 0, 5)):
        with pytest.raises(FileNotFoundError, match=f"{bucket}/x"):
            read()


def test_it_is_pickled_without_its_client(bucket: str) -> None:
    objects = Objects.open(bucket)
    objects.write("x", b"1")
    again = pickle.loads(pickle.dumps(objects))
    assert again == objects
    assert again.read("x") == b"1"


@pytest.mark.skipif(sys.platform != "linux", reason="fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("ranges", [[], [0, 5_000_000]])
def test_a_fork_is_told_and_does_not_hang(bucket: str, ranges: list[int]) -> None:
    objects = Objects.open(bucket)
    objects.write("x", bytes(6_000_000))
    objects.read_ranges("x", [0, 5_000_000], [1, 1])  # starts threads, which a fork does not have
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(20)
            objects.read_ranges("x", ranges, [1, 1]) if ranges else objects.read("x")
        except EmonetError as error:
            os.write(writer, str(error).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert b"forked" in os.read(reader, 1000)
    os.close(reader)
    os.close(writer)


@pytest.mark.slow  # a new interpreter
def test_a_spawned_process_reads(bucket: str) -> None:
    objects = Objects.open(bucket)
    objects.write("x", b"1")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(objects.read, ("x",)) == b"1"


def test_no_such_bucket(s3: S3) -> None:
    objects = Objects.open("s3://nobody-made-this/x")
    for doing in (lambda: objects.write("x", b"1"), lambda: objects.read("x"), lambda: list(objects.list())):
        with pytest.raises(RequestError, match="no such bucket"):
            doing()


def test_no_permission(bucket: str, s3: S3) -> None:
    objects = Objects.open(bucket)
    objects.write("x", b"1")
    s3.refuses = lambda method, path: method in ("PUT", "POST", "DELETE")
    assert objects.read("x") == b"1"
    with pytest.raises(RequestError, match="may not write here"):
        objects.write("x", b"2")
    with pytest.raises(RequestError, match="may not delete here"):
        objects.delete(["x"])
    s3.refuses = lambda method, path: True
    for read in (lambda: objects.read("x"), lambda: objects.size("x")):
        with pytest.raises(RequestError, match="may not read here"):
            read()
    with pytest.raises(RequestError, match="may not list here"):
        list(objects.list())


def test_no_credentials(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(RequestError, match=r"no credentials.*\n(.*\n)*.*AWS_PROFILE"):
        Objects.open(bucket).read("x")
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RequestError, match=r"no credentials.*\n(.*\n)*.*AZURE"):
        Objects.open("az://container/x").read("x")


def test_credentials_of_a_profile(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("[lab]\naws_access_key_id = a\naws_secret_access_key = b%c\n")
    (tmp_path / "config").write_text("[profile lab]\nregion = eu-west-1\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_PROFILE", "lab")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "keys"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    objects = Objects.open(bucket)
    objects.write("x", b"1")
    assert objects.read("x") == b"1"


@pytest.mark.slow  # half a second of patience
def test_a_server_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    server = S3()
    server.start()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    objects = Objects.open(server.bucket())
    objects.write("x", b"1")
    server.stop()
    with pytest.raises(EmonetError, match="does not read this") as raised:
        objects.read("x")
    assert not isinstance(raised.value, RequestError)


def test_patience_is_a_number(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMONET_OBJECTS_PATIENCE", "long")
    with pytest.raises(RequestError, match="EMONET_OBJECTS_PATIENCE"):
        Objects.open(bucket).read("x")


def test_without_obstore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(RequestError, match=r"emonet\[objects\]"):
        Objects.open("s3://bucket/x").read("x")
