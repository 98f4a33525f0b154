"""Bytes that are read by ranges, as far as they are looked at: a part of a file or object as bytes and as a file."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, final

HEAD = 1 << 16  # bytes that are read first
WHOLE = 1 << 22  # bytes; up to here the rest is read at once, since a request costs as much as a few megabytes
BLOCK = 1 << 20  # bytes that are read at once of what is larger
_KEPT = 16  # blocks


@final
class Ranges:
    """A range of bytes that is read when it is looked at: by index, by slice, or as a file.

    Args:
        read: gives bytes from a start (bytes), so many; raises where they are not there.
        size: of the range (bytes).
        head: bytes that are read first.
        whole: a range that is not larger is read at once beyond its head (bytes).
        block: bytes that are read at once of a larger one.
    """

    def __init__(
        self,
        read: Callable[[int, int], bytes],
        size: int,
        *,
        head: int = HEAD,
        whole: int = WHOLE,
        block: int = BLOCK,
    ) -> None:
        self._read, self._size, self._head, self._whole, self._block = read, size, head, whole, block
        self.error: Exception | None = None
        """Why bytes could not be read, for those whose libraries swallow what a file raises."""
        self._begun = b""  # what is there of a range that is read whole
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, at: int | slice) -> Any:
        """A byte as a number, or a slice as bytes."""
        if isinstance(at, int):
            return self._bytes(range(self._size)[at], 1)[0]
        first, last, step = at.indices(self._size)
        if step != 1:
            raise ValueError("only slices without a step are read")
        return self._bytes(first, max(0, last - first))

    def find(self, wanted: bytes, first: int = 0, last: int | None = None) -> int:
        """Where bytes occur first, from a place on; -1 where they do not."""
        last = self._size if last is None else min(last, self._size)
        while first < last:
            found = self._bytes(first, min(self._block + len(wanted) - 1, last - first))
            if (place := found.find(wanted)) >= 0:
                return first + place
            first += self._block
        return -1

    def rfind(self, wanted: bytes) -> int:
        """Where bytes occur last; -1 where they do not."""
        last = self._size
        while last > 0:
            first = max(0, last - self._block)
            found = self._bytes(first, min(last - first + len(wanted) - 1, self._size - first))
            if (place := found.rfind(wanted)) >= 0:
                return first + place
            last = first
        return -1

    def file(self, offset: int = 0) -> io.RawIOBase:
        """A file of the bytes from a place on, which seeks."""
        return SlicedFile(self, offset)

    def _bytes(self, first: int, size: int) -> bytes:
        size = min(size, self._size - first)
        if size <= 0:
            return b""
        if self._size <= self._whole:
            if first + size > len(self._begun):
                to = self._size if first + size > self._head else min(self._head, self._size)
                self._begun += self._fetch(len(self._begun), to - len(self._begun))
            return self._begun[first : first + size]
        parts = [self._one(number) for number in range(first // self._block, (first + size - 1) // self._block + 1)]
        skipped = first % self._block
        return b"".join(parts)[skipped : skipped + size]

    def _fetch(self, start: int, size: int) -> bytes:
        try:
            return self._read(start, size)
        except Exception as error:
            self.error = error
            raise

    def _one(self, number: int) -> bytes:
        if number not in self._blocks:
            start = number * self._block
            self._blocks[number] = self._fetch(start, min(self._block, self._size - start))
            while len(self._blocks) > _KEPT:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return self._blocks[number]


class SlicedFile(io.RawIOBase):
    """What a sequence of bytes holds from some byte on, as a file that is read.

    Args:
        content: has a length, and gives bytes by slices.
        offset: of the file's first byte in it.
    """

    def __init__(self, content: Any, offset: int = 0) -> None:
        super().__init__()
        self._content, self._offset, self._at = content, offset, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, to: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte; returns where that is."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._content) - self._offset}[whence]
        self._at = max(0, base + to)
        return self._at

    def tell(self) -> int:
        """Which byte is next."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, as far as there are bytes; returns how many."""
        first = self._offset + self._at
        found = self._content[first : first + len(buffer)]
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)
