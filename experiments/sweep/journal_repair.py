"""Mends a study's journal file, whose last line a full disk or a kill can cut short."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Lock(Protocol):
    """What keeps writers of a journal apart."""

    def acquire(self) -> bool:
        """Wait until nobody else writes."""

    def release(self) -> None:
        """Let others write."""


class MendingLock:
    """A lock of a journal; whoever gets it finds the file ending with a whole line.

    Optuna appends to what is there: behind half a line the next one could not be read, nor anything after it.

    Args:
        lock: keeps writers apart.
        path: of the journal.
    """

    def __init__(self, lock: Lock, path: Path) -> None:
        self._lock, self._path = lock, path

    def acquire(self) -> bool:
        """Wait until nobody else writes, and cut off what was not written whole: its writer was told, or is dead."""
        got = self._lock.acquire()
        try:
            _mend(self._path)
        except BaseException:
            self._lock.release()
            raise
        return got

    def release(self) -> None:
        """Let others write."""
        self._lock.release()


def _mend(path: Path) -> None:
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 1))
        if file.read(1) not in (b"", b"\n"):
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
