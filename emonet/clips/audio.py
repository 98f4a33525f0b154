"""Where the audio of a clip is: a file, bytes in memory, a range of a file or object, or a cell of a Parquet file."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

from emonet.objects import is_url


@dataclass(frozen=True, slots=True)
class AudioRange:
    """Bytes of a file or object: a member of a tar, or the whole object, which starts at 0.

    Args:
        location: path or URL of what holds them, e.g. `s3://bucket/shards/train-000000.tar`.
        start: of the first one (bytes).
        size: how many (bytes); below 0 where there is no such object.
    """

    location: str
    start: int
    size: int

    def __str__(self) -> str:
        return f"{self.location}, bytes {self.start} to {self.start + self.size}" if self.start else self.location


@dataclass(frozen=True, slots=True)
class AudioCell:
    """A cell of a Parquet file that holds encoded audio.

    Args:
        location: path or URL of the file.
        column: of the bytes; with a dot where they are a field of a struct, as in `audio.bytes`.
        row_group: that the cell is in (from 0).
        row: of the cell in its row group (from 0).
        size: of the audio (bytes).
    """

    location: str
    column: str
    row_group: int
    row: int
    size: int

    def __str__(self) -> str:
        return f"{self.location}, column {self.column}, row {self.row} of row group {self.row_group}"


Audio = Path | bytes | AudioRange | AudioCell
"""Path of a file, the encoded bytes of one, or where these are in a larger file or an object."""


def located(audio: Audio, folder: str) -> Audio:
    """The same audio with its path from a folder on, where it is relative; addresses stay as they are."""
    if isinstance(audio, bytes):
        return audio
    if isinstance(audio, Path):
        return Path(folder) / audio
    return audio if is_url(audio.location) else replace(audio, location=str(Path(folder) / audio.location))


def content_key(audio: Audio) -> str | int:
    """What stands for the content of audio without reading it: its size in bytes; of bytes in memory their SHA-256.

    Returns:
        -1 for a file that is not there.
    """
    if isinstance(audio, bytes):
        return hashlib.sha256(audio).hexdigest()
    return file_identity(audio)[1] if isinstance(audio, Path) else audio.size


def file_identity(path: Path | str) -> tuple[object, int]:
    """What makes a file the same as another one, and its size in bytes (-1 where it is not there)."""
    try:
        found = os.stat(path)  # noqa: PTH116 a third faster, a million times
    except OSError:
        return str(path), -1
    return (found.st_dev, found.st_ino), found.st_size


def holder_identity(location: str) -> object:
    """What makes a file or object that holds audio the same as another one; of addresses it is the address."""
    return location if is_url(location) else file_identity(location)[0]
