"""One shard in a file of this machine, open for the time of one read."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import final

from cache.store.shard_index import ShardIndex


@final
class LocalShard:
    """An open shard of one array; a context manager.

    Args:
        file: of the shard.
        count: chunks that it has room for.
        indices: of shards that were read before; this one's is added.
    """

    def __init__(self, file: str, count: int, indices: dict[str, ShardIndex]) -> None:
        self._file, self._count, self._indices = file, count, indices
        self.handle = -1

    def __enter__(self) -> LocalShard:
        # No file: every clip of the shard failed, or it was deleted; each clip's own message says which.
        with suppress(FileNotFoundError):
            self.handle = os.open(self._file, os.O_RDONLY | os.O_CLOEXEC)
        return self

    def __exit__(self, *_: object) -> None:
        if self.handle >= 0:
            os.close(self.handle)

    def place(self, position: int) -> tuple[int, int] | None:
        """Where a clip's chunk lies in the file; None if it is missing."""
        if self.handle < 0:
            return None
        index = self._indices.get(self._file)
        if index is None:
            index = self._indices[self._file] = ShardIndex.read(self.handle, self._count)
        return index[position]
