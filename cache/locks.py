"""Who may write a store: advisory locks on byte ranges of one file beside it, kept by the operating system.

They vanish with the process that holds them, however it dies, and they work between machines on file systems that
support POSIX locks (NFS among them). One file serves a store of any number of shards and nothing has to be cleaned up.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import final

from emonet.errors import EmonetError

_PREPARING, _WRITERS, _FIRST_SHARD = 0, 1, 2  # what each byte of the file stands for
_OPEN: set[Path] = set()  # POSIX locks belong to a process: a second writer inside this one would not notice them


@final
class StoreLocks:
    """The locks of one store, held by one writer in this process; a context manager.

    Args:
        path: the folder NAME.zarr; the file is .NAME.zarr.lock beside it.

    Raises:
        EmonetError: on entering, if this process writes the store already.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.with_name(f".{path.name}.lock")
        self._key = self._file.absolute()
        self._handle = -1

    def __enter__(self) -> StoreLocks:
        if self._key in _OPEN:
            raise EmonetError("this process is writing this store already", where=self._path)
        self._handle = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        _OPEN.add(self._key)
        return self

    def __exit__(self, *_: object) -> None:
        _OPEN.discard(self._key)
        os.close(self._handle)  # which lets go of every lock

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """While one process makes, checks or finishes the store the others wait; held for moments only."""
        self._lock(_PREPARING, fcntl.LOCK_EX, wait=True)
        try:
            yield
        finally:
            self._unlock(_PREPARING)

    def join(self) -> bool:
        """Become one of the store's writers.

        Returns:
            Whether there is no other.
        """
        alone = self._lock(_WRITERS, fcntl.LOCK_EX)
        self._lock(_WRITERS, fcntl.LOCK_SH, wait=True)
        return alone

    def alone(self) -> bool:
        """Whether no other process writes the store; to be asked while `preparing`, so that none comes."""
        alone = self._lock(_WRITERS, fcntl.LOCK_EX)
        if alone:
            self._lock(_WRITERS, fcntl.LOCK_SH, wait=True)
        return alone

    def claim(self, shard: int) -> bool:
        """Take a shard, unless another process has it."""
        return self._lock(_FIRST_SHARD + shard, fcntl.LOCK_EX)

    def release(self, shard: int) -> None:
        """Give a shard back."""
        self._unlock(_FIRST_SHARD + shard)

    def _lock(self, byte: int, kind: int, *, wait: bool = False) -> bool:
        try:
            fcntl.lockf(self._handle, kind if wait else kind | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _unlock(self, byte: int) -> None:
        fcntl.lockf(self._handle, fcntl.LOCK_UN, 1, byte)
