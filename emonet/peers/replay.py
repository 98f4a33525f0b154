"""Replay files: every answer of a service, kept line by line as it comes, so that nobody is asked twice."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, final

from filelock import FileLock, Timeout

from emonet.errors import EmonetError
from emonet.runtime import durable

FORMAT = 1


@dataclass(frozen=True)
class Kept:
    """What a service said to one clip.

    Args:
        text: the answer's body; empty where there is none.
        failed: why there is no answer; it is asked for again where that may be.
    """

    text: str = ""
    failed: str | None = None


@final
class Replay:
    """The answers in a file of JSON lines, by key; within a `with`, also written, by this process alone.

    A line that a kill cut short counts for nothing. Of several lines with one key the last counts.

    Args:
        path: of the file; it need not be there.
        say: told in a sentence if lines cannot be read.
    """

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self._path, self._say = path, say
        self._kept: dict[str, Kept] = {}
        self._file: BinaryIO | None = None
        self._writing = threading.Lock()
        self._lock = FileLock(f"{path}.lock")
        self._read()

    def __enter__(self) -> Self:
        with durable.explained(self._path, what="the answers", kept="the answers so far are kept"):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise EmonetError(
                    "another process asks the same service",
                    where=self._path,
                    hint="wait for it, and run the same command again: its answers are read then",
                ) from None
            self._read()  # what another process has written by now
            self._file = self._path.open("ab")
            durable.sync(self._path.parent)
            if not _ends_a_line(self._path):
                self._file.write(b"\n")  # the rest of a line that a kill cut short
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
        self._lock.release()

    def get(self, key: str) -> Kept | None:
        """What is kept under a key."""
        return self._kept.get(key)

    def keep(self, key: str, kept: Kept, **about: str | float) -> None:
        """Write a line, on disk when this returns.

        Args:
            key: of the model, its prompt and the audio.
            kept: the answer.
            about: for people who read the file: the clip, the time.
        """
        assert self._file is not None, "only within a with"
        answer = {"text": kept.text} if kept.failed is None else {"failed": kept.failed}
        line = json.dumps({"format": FORMAT, "key": key, **about, **answer}).encode()
        explained = durable.explained(self._path, what="the answers", kept="the answers so far are kept")
        with self._writing, explained:
            self._file.write(line + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            self._kept[key] = kept

    def _read(self) -> None:
        if not self._path.exists():
            return
        lost = 0
        for line in self._path.read_bytes().split(b"\n"):
            if line.strip():
                try:
                    row = json.loads(line)
                    key, failed, text = str(row["key"]), row.get("failed"), row.get("text", "")
                    if row["format"] != FORMAT or not isinstance(failed if failed is not None else text, str):
                        raise ValueError("another format")
                    self._kept[key] = Kept(failed=failed) if failed is not None else Kept(text)
                except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                    lost += 1
        if lost:
            lines = f"{lost} line{'s' * (lost != 1)}"
            self._say(f"{lines} of {self._path} cannot be read; those clips count as not yet asked for")


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
