from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from emonet.clips import AudioCell, AudioRange, Clip, Corpus, content_key, located
from emonet.clips.audio import Audio, holder_identity
from emonet.errors import RequestError

TAR = AudioRange("s3://b/train.tar", 512, 100)
CELL = AudioCell("s3://b/train.parquet", "audio.bytes", 1, 2, 100)


def corpus(first: Audio, second: Audio) -> Corpus:
    return Corpus("x", (Clip("a", first, "s", "train"), Clip("b", second, "t", "test")))


def test_the_same_range_or_cell_in_two_splits_is_a_leak(tmp_path: Path) -> None:
    for audio in (TAR, CELL):
        with pytest.raises(RequestError, match=r"the same recording is in two splits: 'a' \(train\) and 'b' \(test\)"):
            corpus(audio, pickle.loads(pickle.dumps(audio)))
    corpus(TAR, AudioRange(TAR.location, 1024, 100))
    corpus(CELL, AudioCell(CELL.location, CELL.column, 1, 3, 100))
    (tmp_path / "x.tar").touch()
    (tmp_path / "link.tar").symlink_to(tmp_path / "x.tar")
    with pytest.raises(RequestError, match="the same recording is in two splits"):
        corpus(*(AudioRange(str(tmp_path / name), 512, 9) for name in ("x.tar", "link.tar")))


def test_size_enters_the_fingerprint_as_of_files(tmp_path: Path) -> None:
    (path := tmp_path / "a.wav").write_bytes(bytes(100))
    other = AudioRange("s3://b/other.tar", 2048, 7)
    wanted = corpus(path, other).fingerprint
    assert corpus(TAR, other).fingerprint == corpus(CELL, other).fingerprint == wanted
    assert corpus(AudioRange("s3://b/train.tar", 512, 101), other).fingerprint != wanted
    assert [content_key(one) for one in (TAR, CELL, path, tmp_path / "no")] == [100, 100, 100, -1]
    assert content_key(b"x").startswith("2d711642")  # type: ignore[union-attr]


def test_relative_places_start_from_a_folder() -> None:
    assert located(Path("a.wav"), "/x") == Path("/x/a.wav")
    assert located(AudioRange("a.tar", 512, 9), "/x") == AudioRange("/x/a.tar", 512, 9)
    assert located(AudioCell("/y/a.parquet", "a", 0, 0, 9), "/x").location == "/y/a.parquet"  # type: ignore[union-attr]
    assert [located(one, "/x") for one in (TAR, CELL, b"x")] == [TAR, CELL, b"x"]
    one_slash = AudioRange("s3:/b/a.tar", 0, 9)  # as pathlib leaves it
    assert located(one_slash, "/x") == one_slash
    assert holder_identity(one_slash.location) == one_slash.location


def test_another_file_in_the_place_of_one_is_another(tmp_path: Path) -> None:
    (path := tmp_path / "x.tar").touch()
    first = holder_identity(str(path))
    (tmp_path / "other").touch()
    (tmp_path / "other").replace(path)
    assert holder_identity(str(path)) != first
