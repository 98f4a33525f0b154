"""Journal: what a timeline has scored so far, so that a kill or a full disk costs no more than one batch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from filelock import FileLock, Timeout

from emonet.errors import EmonetError
from emonet.runtime import durable

Entry = Mapping[str, Any]
_KEPT = "every scored segment is kept"


@final
class Journal:
    """Lines of JSON: first what the lines belong to, then one for each batch of segments, and the rest at the end.

    A line that a kill or a full disk cut short counts as none.

    Args:
        path: of the file; its folder is there.
        key: of the recording, the model and the options: lines of another key are not used.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        self.entries, self._size = _read(path, key)
        self._is_new = not self.entries and self._size == 0

    def append(self, entry: Entry) -> None:
        """Add a line; it is on disk afterwards.

        Raises:
            EmonetError: if the disk is full.
        """
        with durable.explained(self._path, what="the timeline", kept=_KEPT):
            if self._is_new:
                durable.write(self._path, _line({"key": self._key}))
                self._size, self._is_new = self._path.stat().st_size, False
            line = _line(entry)
            with self._path.open("r+b") as file:
                file.truncate(self._size)
                file.seek(self._size)
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            self._size += len(line)

    def cut(self, entries: Sequence[Entry]) -> None:
        """Go back to the first lines: what follows them belongs to something else."""
        with durable.explained(self._path, what="the timeline", kept=_KEPT):
            durable.write(self._path, map(_line, [{"key": self._key}, *entries]))
        self.entries, self._size, self._is_new = list(entries), self._path.stat().st_size, False


def _line(entry: Entry) -> bytes:
    return (json.dumps(entry, ensure_ascii=True, separators=(",", ":")) + "\n").encode()


def _read(path: Path, key: str) -> tuple[list[Entry], int]:
    """The whole lines of this key, and where they end (bytes); nothing where there are none."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return [], 0
    found: list[Entry] = []
    size = 0
    for number, line in enumerate(lines):
        try:
            entry = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            entry = None
        if not isinstance(entry, dict) or (number == 0 and entry.get("key") != key):
            break
        size += len(line)
        found += [entry] if number else []
    return found, size


@contextmanager
def journal_of(path: Path, key: str) -> Iterator[Journal]:
    """A journal that no other process writes meanwhile.

    Raises:
        EmonetError: if another process does.
    """
    with durable.explained(path.parent, what="the timeline", kept="nothing was written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock"), timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise EmonetError(
                "another process is at work on this timeline",
                where=path.parent,
                hint="wait until it is done, or give another --out",
            ) from None
    try:
        yield Journal(path, key)
    finally:
        lock.release()
