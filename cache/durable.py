"""Files that survive a kill and a power cut: written whole, synced, then renamed into place."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emonet.errors import EmonetError, RequestError

PARTIAL = ".partial"  # suffix of files that are not whole yet; Zarr uses the same


def write(path: Path, content: bytes) -> None:
    """Write a file so that it is there with all of `content`, also after a power cut, or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)


def sync(path: Path) -> None:
    """Make sure that a file's content, or a folder's list of names, is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_up_to(path: Path, root: Path) -> None:
    """`sync` a file and each folder above it, up to and including `root`."""
    sync(path)
    while path != root:
        path = path.parent
        sync(path)


def remove_partials(folder: Path) -> None:
    """Remove what a killed writer left half-written below `folder`."""
    for path in folder.rglob(f"*{PARTIAL}"):
        path.unlink(missing_ok=True)


@contextmanager
def explained(where: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into messages that say what to do.

    Raises:
        EmonetError: if the disk is full.
        RequestError: if the folder may not be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise EmonetError(
                "the disk is full; every finished shard is kept",
                where=where,
                hint="free some space and run the same command again: it goes on where it stopped",
            ) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise RequestError(
                "the folder for the store cannot be written", where=where, found=error.strerror
            ) from error
        raise
