"""Exchange of folders: one takes another's place in one step; what killed processes left of it is removed."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = ".partial"  # suffix of files and folders that are not whole yet; Zarr uses the same
_OLDER = ".older"  # suffix of a folder that is being replaced, where two cannot be exchanged in one step
_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)
_AT_FDCWD = -100  # paths are not relative to an open folder
_OLD = 86_400.0  # seconds after which a leftover goes where the file system has no locks


def unique() -> str:
    """Part of a name that no other process or thread takes."""
    return f"{os.getpid()}-{secrets.token_hex(4)}"


@contextmanager
def claimed(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder`, locked as long as this process lives: nobody takes it for a leftover."""
    while True:
        partial = folder.with_name(f".{folder.name}.{unique()}{PARTIAL}")
        partial.mkdir()
        try:
            handle = os.open(partial, os.O_RDONLY)
        except FileNotFoundError:  # taken for one before it was locked
            continue
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if partial.is_dir():
            break
        os.close(handle)
    try:
        yield partial
    finally:
        os.close(handle)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left beside `folder`; put it back if one was killed while it was away."""
    name = re.compile(rf"\.{re.escape(folder.name)}(\.\d+-[0-9a-f]{{8}})?({re.escape(PARTIAL)}|{re.escape(_OLDER)})")
    leftovers = [path for path in folder.parent.iterdir() if name.fullmatch(path.name)]
    for leftover in leftovers:
        with _nobodys(leftover) as free:
            if free and leftover.suffix == _OLDER and not folder.exists():
                leftover.rename(folder)
            elif free:
                remove(leftover)


def remove(folder: Path) -> None:
    """Remove a folder, or a link to one, as far as that is allowed."""
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def put_in_place(partial: Path, folder: Path) -> None:
    """Let `partial` take the place of `folder`; afterwards `partial` is what was replaced, if anything was."""
    while True:
        try:
            if _exchange(partial, folder):
                return
            _rename_twice(partial, folder)
        except FileNotFoundError:  # nothing there to replace
            _rename(partial, folder)
        if not partial.exists():
            return


@contextmanager
def _nobodys(leftover: Path) -> Iterator[bool]:
    """Whether the process that made a folder has ended; nobody else can claim it within the block."""
    try:
        handle = os.open(leftover, os.O_RDONLY)
    except OSError:  # gone meanwhile, or another user's
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except BlockingIOError:
            free = False
        except OSError:  # a file system without locks
            free = time.time() - os.fstat(handle).st_mtime > _OLD
        yield free
    finally:
        os.close(handle)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; false where the system or the file system cannot.

    Raises:
        FileNotFoundError: if one of them does not exist.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}:
        return False
    raise OSError(number, os.strerror(number), str(other))


def _rename_twice(partial: Path, folder: Path) -> None:
    """Where folders cannot be exchanged: for a moment, and after a kill until the next start, there is none."""
    older = folder.with_name(f".{folder.name}.{unique()}{_OLDER}")
    folder.rename(older)
    try:
        _rename(partial, folder)
    except OSError:
        older.rename(folder)
        raise
    remove(older)


def _rename(partial: Path, folder: Path) -> None:
    """Rename, unless another process has put a folder there meanwhile."""
    try:
        partial.rename(folder)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
