"""Files that survive a kill and a power cut: written whole, synced, then renamed into place."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from emonet.errors import EmonetError, RequestError

PARTIAL = ".partial"  # suffix of files that are not whole yet; Zarr uses the same


def write(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file so that it is there with all of `content` (or its parts), also after a power cut, or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with partial.open("wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `folder` if the block ends well and vanishes if it does not.

    A rename each way: a kill leaves the older folder or the newer one, whole.
    """
    partial, older = (folder.with_name(f".{folder.name}.{word}") for word in ("partial", "older"))
    if older.exists() and not folder.exists():  # killed between the two renames
        older.rename(folder)
    for leftover in (partial, older):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists():
            folder.rename(older)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(older, ignore_errors=True)


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
def explained(
    where: Path,
    *,
    what: str = "the store",
    kept: str = "every finished shard is kept",
    then: str = "it goes on where it stopped",
) -> Iterator[None]:
    """Turn the operating system's refusals to write into messages that say what to do.

    Args:
        where: what is being written.
        what: whose folder it is.
        kept: what is there in spite of the refusal.
        then: what the same command does when it is run again.

    Raises:
        EmonetError: if the disk is full, or a file too large.
        RequestError: if the folder may not be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise EmonetError(
                f"the disk is full; {kept}",
                where=where,
                hint=f"free some space and run the same command again: {then}",
            ) from error
        if error.errno == errno.EFBIG:
            raise EmonetError(
                f"a file would be larger than this process may write; {kept}",
                where=where,
                hint=f"raise the limit (ulimit -f) and run the same command again: {then}",
            ) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise RequestError(f"the folder for {what} cannot be written", where=where, found=error.strerror) from error
        raise
