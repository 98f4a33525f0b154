"""A folder of objects, whoever keeps it: whole objects written, ranges of them read."""

from __future__ import annotations

import functools
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

from emonet.objects.urls import BUCKETS, HUBS, split

PART = 8 << 20  # bytes of one part of an upload or of a long download
AT_ONCE = 12  # parts on their way
_NEAR = 1 << 20  # bytes between two ranges that are rather read than asked for twice


class Objects(ABC):
    """Objects under one URL. Keys are relative to it, with `/` between their parts.

    Can be pickled and used from many threads; the client is opened by each process itself. All methods raise
    RequestError where credentials, bucket or permission are missing, and EmonetError where the service does not answer.
    """

    _part: ClassVar = PART  # bytes that are asked for at once

    @staticmethod
    def open(url: str | os.PathLike[str]) -> Objects:
        """The folder of objects at a URL; nothing is asked of the service yet.

        Credentials, region and endpoint are taken from the environment, as the service's own tools do:
        AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_NAME ...

        Raises:
            RequestError: if it is the URL of no store that is known here.
        """
        scheme, bucket, path = split(url)
        if scheme in BUCKETS:
            from emonet.objects.bucket import BucketObjects

            return BucketObjects(f"{scheme}://{bucket}", path)
        address = f"{scheme}://{bucket}/{path}" if path else f"{scheme}://{bucket}"
        if scheme in HUBS:
            from emonet.objects.hub import HubObjects

            return HubObjects(address)
        from emonet.objects.web import WebObjects

        return WebObjects(address)

    @property
    @abstractmethod
    def url(self) -> str:
        """Where they lie."""

    @abstractmethod
    def child(self, name: str) -> Objects:
        """The folder `name` in this one."""

    @abstractmethod
    def read(self, key: str) -> bytes:
        """A whole object.

        Raises:
            FileNotFoundError: if there is none.
        """

    @abstractmethod
    def read_range(self, key: str, start: int, size: int) -> bytes:
        """`size` bytes from `start` on; fewer where the object ends before.

        Raises:
            FileNotFoundError: if there is no such object.
        """

    def read_ranges(self, key: str, starts: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        """Several ranges of an object at once; near ones are read in one request, others at the same time.

        Raises:
            FileNotFoundError: if there is no such object.
        """
        runs = list(_runs(starts, sizes, self._part))
        ask = map if len(runs) <= 1 else _threads(os.getpid()).map
        parts = list(ask(lambda run: self.read_range(key, run[0], run[1] - run[0]), runs))
        return [_cut(runs, parts, start, size) for start, size in zip(starts, sizes, strict=True)]

    @abstractmethod
    def write(self, key: str, data: bytes | Path | Sequence[bytes], *, create: bool = False) -> None:
        """Write an object whole or not at all.

        Args:
            key: its name.
            data: its content, in one piece or several, or the file of this machine that has it.
            create: refuse where there is one already; of several that create it, one succeeds.

        Raises:
            FileExistsError: if `create` is asked for and there is one.
        """

    def size(self, key: str) -> int | None:
        """Bytes of an object; None where there is none."""
        found = self.stamp(key)
        return None if found is None else found[0]

    @abstractmethod
    def stamp(self, key: str) -> tuple[int, str] | None:
        """Bytes of an object, and what its service tells other contents by; None where there is none."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Keys and sizes (bytes) of all objects in the folder `prefix` of this one, and below it."""

    @abstractmethod
    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; those that do not exist are passed over."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"


def _runs(starts: Sequence[int], sizes: Sequence[int], part: int) -> Iterator[tuple[int, int]]:
    """Ranges to ask for, begin and end: near ones together, in parts."""
    spans: list[tuple[int, int]] = []
    for start, size in sorted(zip(starts, sizes, strict=True)):
        if spans and start - spans[-1][1] <= _NEAR:
            spans[-1] = spans[-1][0], max(spans[-1][1], start + size)
        else:
            spans.append((start, start + size))
    for begin, end in spans:
        for first in range(begin, end, part):
            yield first, min(first + part, end)


def _cut(runs: Sequence[tuple[int, int]], parts: Sequence[bytes], start: int, size: int) -> bytes:
    """One range out of those that were asked for."""
    pieces = [
        part[max(start - begin, 0) : max(start + size - begin, 0)]
        for (begin, end), part in zip(runs, parts, strict=True)
        if begin < start + size and start < end
    ]
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


@functools.cache
def _threads(_: int) -> ThreadPoolExecutor:
    """Those of a process: a fork has none of its parent's, and would wait for ever."""
    return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="objects")
