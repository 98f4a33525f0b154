"""Chunks of one shard that lies among objects: its index is read once, then ranges of it, near ones together."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import final

from cache.store.places import RemotePath
from cache.store.shard_index import ShardIndex, index_bytes
from cache.store.tiers import DamagedChunkError


@final
class RemoteShard:
    """One shard of one array.

    Args:
        path: of its object.
        count: chunks that it has room for.
        indices: of shards that were read before; this one's is added.
    """

    def __init__(self, path: RemotePath, count: int, indices: dict[str, ShardIndex]) -> None:
        self._path, self._count, self._indices = path, count, indices

    def read(self, positions: Sequence[int]) -> list[bytes | None]:
        """Chunks with their checksums; None for those that are missing.

        Raises:
            DamagedChunkError: if the object is shorter than its index says, or the index is damaged.
        """
        index = self._index()
        places = [None if index is None else index[position] for position in positions]
        there = [place for place in places if place is not None]
        contents: list[bytes] = []
        with suppress(FileNotFoundError):  # deleted since its index was read
            starts, sizes = [start for start, _ in there], [size for _, size in there]
            contents = self._path.root.read_ranges(self._path.key, starts, sizes)
        found = iter(contents)
        return [None if place is None else _whole(next(found, None), place) for place in places]

    def _index(self) -> ShardIndex | None:
        name = str(self._path)
        if name not in self._indices:
            size = self._path.size()
            if size is None:  # every clip of the shard failed, or it was deleted
                return None
            length = index_bytes(self._count)
            content = self._path.root.read_range(self._path.key, max(0, size - length), length)
            self._indices[name] = ShardIndex.parse(content, self._count)
        return self._indices[name]


def _whole(content: bytes | None, place: tuple[int, int]) -> bytes | None:
    if content is not None and len(content) != place[1]:
        raise DamagedChunkError(f"the shard ends after {len(content)} of its {place[1]} bytes")
    return content
