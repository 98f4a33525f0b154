from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from emonet.errors import EmonetError, RequestError
from emonet.runtime import durable

EXPORT = {"what": "the export", "kept": "nothing was exported", "then": "it starts from the beginning"}


@pytest.mark.parametrize(
    ("number", "words", "lines"),
    [
        (
            errno.ENOSPC,
            {},
            [
                "the disk is full; every finished shard is kept",
                "  where:    s.zarr",
                "  try:      free some space and run the same command again: it goes on where it stopped",
            ],
        ),
        (
            errno.EDQUOT,
            EXPORT,
            [
                "the disk is full; nothing was exported",
                "  where:    s.zarr",
                "  try:      free some space and run the same command again: it starts from the beginning",
            ],
        ),
        (
            errno.EFBIG,
            EXPORT,
            [
                "a file would be larger than this process may write; nothing was exported",
                "  where:    s.zarr",
                "  try:      raise the limit (ulimit -f) and run the same command again: it starts from the beginning",
            ],
        ),
        (
            errno.EROFS,
            EXPORT,
            ["the folder for the export cannot be written", "  where:    s.zarr", "  found:    Read-only file system"],
        ),
    ],
)
def test_refusals_to_write_say_what_is_kept_and_what_to_do(number: int, words: Any, lines: list[str]) -> None:
    with pytest.raises(EmonetError) as caught, durable.explained(Path("s.zarr"), **words):
        raise OSError(number, "Read-only file system")
    assert str(caught.value).splitlines() == lines
    assert isinstance(caught.value, RequestError) == (number == errno.EROFS)


def test_other_errors_pass() -> None:
    with pytest.raises(OSError, match="broken disk"), durable.explained(Path("s.zarr")):
        raise OSError(errno.EIO, "broken disk")


def test_only_what_killed_writers_of_the_same_file_left_goes(tmp_path: Path) -> None:
    mine, others = (
        tmp_path / "a [1].csv",
        [tmp_path / "a [1].csv", tmp_path / "a 1.csv.3-c.partial", tmp_path / "b.partial"],
    )
    for path in (*others, tmp_path / "a [1].csv.16657-aa2fe0cd.partial"):
        path.write_text("x")
    durable.remove_partials_of(mine)
    assert sorted(tmp_path.iterdir()) == sorted(others)
