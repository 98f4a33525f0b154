"""Durable, atomic writes: files that survive a kill and a power cut are written whole, synced, then renamed."""

from __future__ import annotations

import errno
import glob
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from emonet.errors import EmonetError, RequestError
from emonet.runtime import exchange
from emonet.runtime.exchange import claimed, put_in_place, remove, remove_leftovers, unique

PARTIAL = exchange.PARTIAL


def write(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file so that it is there with all of `content` (or its parts), also after a power cut, or not at all."""
    partial = path.with_name(f"{path.name}.{unique()}{PARTIAL}")
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

    Both are whole at any moment, also for readers and after a power cut: on Linux they are exchanged in one step,
    elsewhere by a rename each way. Several processes may replace the same folder; the last one's stays. What one of
    them left that was killed goes, and a living one's work does not. Modes of files follow the umask.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    with claimed(folder) as partial:
        try:
            yield partial
            follow_umask(partial)
            sync_all(partial)
            put_in_place(partial, folder)
            sync(folder.parent)
        finally:
            remove(partial)  # by now the folder that was replaced


def follow_umask(folder: Path) -> None:
    """Give a folder and all in it the modes that the umask gives: some libraries write for the owner alone."""
    mask = _umask()
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        wanted = mode | ((0o777 if path.is_dir() or mode & stat.S_IXUSR else 0o666) & ~mask)
        if mode != wanted:
            path.chmod(wanted)


def sync_all(folder: Path) -> None:
    """`sync` every file and folder below `folder`, and itself."""
    for path in (*folder.rglob("*"), folder):
        if not path.is_symlink():
            sync(path)


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


def remove_partials_of(path: Path) -> None:
    """Remove what killed writers of a file left half-written; nobody writes it meanwhile."""
    for partial in path.parent.glob(f"{glob.escape(path.name)}.*{PARTIAL}"):
        partial.unlink(missing_ok=True)


def _umask() -> int:
    """Of this process; only Linux tells it without changing it for a moment."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text("utf-8").splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@contextmanager
def explained(
    where: object,
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
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG}:
            raise RequestError(f"the folder for {what} cannot be written", where=where, found=error.strerror) from error
        raise
