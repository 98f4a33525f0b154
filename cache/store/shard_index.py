"""The index of one shard of a Zarr array (codec `sharding_indexed`, at its end), read and written directly.

zarr-python takes milliseconds a clip for bookkeeping in the interpreter; here a clip is one `pread`, one checksum and
one call of its codec. Reading and decompressing do without the interpreter's lock; google-crc32c lets go of it for
`bytes` of 1 MiB or more only. Layout: the chunks one after the other, then for each chunk its offset and length as
little-endian 64-bit integers (both 2^64 - 1 where it is missing), then the CRC-32C of that index.
Source: Zarr v3 specification, sharding codec.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, final

import numpy as np
from jaxtyping import UInt64

from cache.store.tiers import CRC_BYTES, DamagedChunkError, checked, checksum, unchecked

MISSING = (1 << 64) - 1
_ENTRY = 16  # bytes of the index per chunk


def shard_parts(chunks: Sequence[bytes | None]) -> Iterator[bytes]:
    """The content of a shard's file, piece by piece; None stands for a chunk that is missing."""
    index = np.full((len(chunks), 2), MISSING, "<u8")
    position = 0
    for number, chunk in enumerate(chunks):
        if chunk is not None:
            index[number] = position, len(chunk)
            position += len(chunk)
            yield chunk
    yield checked(index.tobytes())


@final
class ShardIndex:
    """Where the chunks of a shard lie in its file.

    Args:
        entries: offset and length of each chunk (bytes).
    """

    def __init__(self, entries: UInt64[np.ndarray, "chunks two"]) -> None:
        self._entries = entries

    @classmethod
    def read(cls, file: int, chunks: int) -> ShardIndex:
        """Read the index at the end of an open file.

        Args:
            file: its descriptor.
            chunks: how many the shard has room for (count).

        Raises:
            DamagedChunkError: if the file is too short, or the index is not what was written.
        """
        size, length = os.fstat(file).st_size, index_bytes(chunks)
        return cls.parse(os.pread(file, length, max(0, size - length)), chunks)

    @classmethod
    def parse(cls, content: bytes, chunks: int) -> ShardIndex:
        """The index out of the last `index_bytes(chunks)` bytes of a shard, or what there is of them.

        Raises:
            DamagedChunkError: if they are fewer, or not what was written.
        """
        if len(content) < index_bytes(chunks):
            raise DamagedChunkError(f"the shard has {len(content)} bytes, its index alone takes {index_bytes(chunks)}")
        try:
            entries = unchecked(content)
        except DamagedChunkError as error:
            raise DamagedChunkError(f"the index of its shard is damaged: {error}") from error
        return cls(np.frombuffer(entries, "<u8").reshape(chunks, 2))

    def __getitem__(self, chunk: int) -> tuple[int, int] | None:
        """Offset and length of a chunk in bytes; None where it is missing."""
        offset, length = self._entries[chunk].tolist()
        return None if offset == MISSING else (offset, length)


def index_bytes(chunks: int) -> int:
    """Bytes of the index at the end of a shard with room for so many chunks."""
    return chunks * _ENTRY + CRC_BYTES


def check_shard(content: bytes, chunks: int) -> None:
    """Check every checksum of a whole shard: that of its index and those of its chunks.

    Args:
        content: of its file.
        chunks: how many it has room for (count).

    Raises:
        DamagedChunkError: if it is not what was written.
    """
    index, view = ShardIndex.parse(content[-index_bytes(chunks) :], chunks), memoryview(content)
    for chunk in range(chunks):
        if (place := index[chunk]) is not None:
            try:
                unchecked(view[place[0] : place[0] + place[1]])
            except DamagedChunkError as error:
                raise DamagedChunkError(f"of chunk {chunk} of {chunks}: {error}") from error


def read_chunk(file: int, place: tuple[int, int]) -> bytes:
    """The bytes of a chunk, its CRC-32C included.

    Raises:
        DamagedChunkError: if the file ends before it.
    """
    offset, length = place
    return _exactly(file, length, offset)


def read_plain(file: int, place: tuple[int, int], out: np.ndarray) -> None:
    """Read a chunk that is not compressed straight into `out`, and check its CRC-32C.

    Raises:
        DamagedChunkError: if it is not what was written.
    """
    offset, length = place
    target: Any = out.reshape(-1).view(np.uint8)
    written = bytearray(CRC_BYTES)
    if length != out.nbytes + CRC_BYTES or os.preadv(file, [target, written], offset) != length:
        raise DamagedChunkError(f"its chunk has {length} bytes, of which not all are there")
    if checksum(target) != written:
        raise DamagedChunkError("its checksum (CRC-32C) is wrong")


def _exactly(file: int, length: int, offset: int) -> bytes:
    content = os.pread(file, length, offset)
    if len(content) != length:
        raise DamagedChunkError(f"the shard ends after {len(content)} of its {length} bytes")
    return content
