"""Locks on who may write a store: advisory, on byte ranges of one file beside it, kept by the operating system.

They vanish with the process that holds them, however it dies, and they work between machines on file systems that
support POSIX locks (NFS among them). One file serves a store of any number of shards and nothing has to be cleaned up.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import final

from emonet.errors import EmonetError
from emonet.runtime import ignore

_PREPARING, _WRITERS, _FIRST_SHARD = 0, 1, 2  # what each byte of the file stands for
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
_OPEN: set[Path] = set()  # POSIX locks belong to a process: a second writer inside this one would not notice them


@final
class HandedOut:
    """In place of locks, for a process that is handed its shards by another one, which holds the locks."""

    def __enter__(self) -> HandedOut:
        return self

    def __exit__(self, *_: object) -> None: ...

    def preparing(self, waiting: Callable[[], None] = ignore) -> AbstractContextManager[None]:  # noqa: ARG002
        """The store was prepared."""
        return nullcontext()

    def join(self) -> bool:
        """There are others."""
        return False

    def alone(self, *, sure: bool = False) -> bool:  # noqa: ARG002
        """There are others."""
        return False

    def claim(self, shard: int) -> bool:  # noqa: ARG002 as of `StoreLocks`
        """Every shard that it is handed is its own."""
        return True

    def claim_all(self, count: int, index: int, shards: Sequence[int]) -> list[int]:  # noqa: ARG002
        """Every shard that it is handed is its own."""
        return list(shards)

    def release(self, shard: int) -> None:
        """Nothing was taken."""


@final
class StoreLocks:
    """The locks of one store, held by one writer in this process; a context manager.

    Every spelling of a path, and every link to it, means the same locks.

    Args:
        path: the folder NAME.zarr; the file is .NAME.zarr.lock beside it.

    Raises:
        EmonetError: on entering, if this process writes the store already; on the first lock, if the file system has
            none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()
        self._file = self._path.with_name(f".{self._path.name}.lock")
        self._handle = -1

    def __enter__(self) -> StoreLocks:
        if self._file in _OPEN:
            raise EmonetError("this process is writing this store already", where=self._path)
        self._handle = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        _OPEN.add(self._file)
        return self

    def __exit__(self, *_: object) -> None:
        _OPEN.discard(self._file)
        os.close(self._handle)  # which lets go of every lock

    @contextmanager
    def preparing(self, waiting: Callable[[], None] = ignore) -> Iterator[None]:
        """While one process makes, checks or finishes the store the others wait.

        That takes moments, except where a store is made of speech only: then the mean of silence is encoded first.

        Args:
            waiting: called if another process holds the lock, before this one waits for it.
        """
        if not self._lock(_PREPARING, fcntl.LOCK_EX):
            waiting()
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

    def alone(self, *, sure: bool = False) -> bool:  # noqa: ARG002 locks of the dead are gone
        """Whether no other process writes the store; to be asked while `preparing`, so that none comes."""
        alone = self._lock(_WRITERS, fcntl.LOCK_EX)
        if alone:
            self._lock(_WRITERS, fcntl.LOCK_SH, wait=True)
        return alone

    def claim(self, shard: int) -> bool:
        """Take a shard, unless another process has it."""
        return self._lock(_FIRST_SHARD + shard, fcntl.LOCK_EX)

    def claim_all(self, count: int, index: int, shards: Sequence[int]) -> list[int]:  # noqa: ARG002 as of `StoreLeases`
        """Take all of these, but for those that another process has."""
        return [shard for shard in shards if self.claim(shard)]

    def release(self, shard: int) -> None:
        """Give a shard back."""
        self._unlock(_FIRST_SHARD + shard)

    def _lock(self, byte: int, kind: int, *, wait: bool = False) -> bool:
        try:
            fcntl.lockf(self._handle, kind if wait else kind | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):
            return False
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            raise EmonetError(
                "this file system has no locks",
                where=self._file,
                expected="POSIX locks (fcntl), which keep two processes from writing one shard",
                found=error.strerror,
                hint="--runs FOLDER on a local disk, or on one whose mount offers POSIX locks",
            ) from error
        return True

    def _unlock(self, byte: int) -> None:
        fcntl.lockf(self._handle, fcntl.LOCK_UN, 1, byte)
