from __future__ import annotations

from pathlib import Path

import pytest

from emonet.errors import RequestError
from emonet.objects import Objects, open_location, read_range, size_of, sizes_of, stamp_of_object
from tests.buckets import S3


def test_files_and_objects_are_read_alike(bucket: str, tmp_path: Path) -> None:
    content = bytes(range(250)) * 10
    (path := tmp_path / "a b.bin").write_bytes(content)
    Objects.open(bucket).write("x/a b.bin", content)
    for location in (str(path), f"{bucket}/x/a b.bin"):
        assert size_of(location) == len(content)
        assert read_range(location, 7, 100) == content[7:107]
        assert read_range(location, 2490, 100) == content[2490:]
        assert read_range(location, 9999, 5) == b""
        with open_location(location, block=64, whole=0) as file:
            assert file.read(5) == content[:5]
            file.seek(-9, 2)
            assert file.read() == content[-9:]
        assert size_of(f"{location}.no") is None
        with pytest.raises(FileNotFoundError):
            read_range(f"{location}.no", 0, 1)
        with pytest.raises(FileNotFoundError):
            open_location(f"{location}.no")
    assert size_of(str(tmp_path)) is None
    with pytest.raises(RequestError, match="names no object"):
        size_of(bucket)


def test_sizes_of_many_are_listed(bucket: str, s3: S3) -> None:
    names = [f"a/{number}" for number in range(205)]
    objects = Objects.open(bucket)
    for name in [*names, "b/1"]:
        objects.write(name, bytes(len(name)))
    s3.requests.clear()
    wanted = [f"{bucket}/{name}" for name in [*names, "a/gone", "b/1", "b/2"]]
    found = sizes_of(wanted)
    assert list(found.values()).count(None) == 2
    assert found[f"{bucket}/a/204"] == 5
    assert len(s3.requests) < 10


def test_who_may_read_need_not_be_allowed_to_list(bucket: str, s3: S3) -> None:
    objects = Objects.open(bucket)
    wanted = [f"{bucket}/a/{number}" for number in range(205)]
    for number in (1, 204):
        objects.write(f"a/{number}", bytes(number))
    s3.refuses = lambda method, path: path.count("/") == 1
    with pytest.raises(RequestError, match="these credentials may not"):
        list(objects.list())
    found = {location: size for location, size in sizes_of(wanted).items() if size is not None}
    assert found == {f"{bucket}/a/1": 1, f"{bucket}/a/204": 204}


def test_stamps_tell_contents_of_one_size(bucket: str) -> None:
    objects, url, found = Objects.open(bucket), f"{bucket}/a", []
    for content in (b"one", b"two", b"one"):
        objects.write("a", content)
        found.append(stamp_of_object(url))
    assert found[0] == found[2] != found[1]
    assert (found[0] or ())[0] == 3
    assert stamp_of_object(f"{url}.no") is None


def test_a_name_that_is_too_long_is_that_of_no_file() -> None:
    assert size_of("x" * 300) is None
