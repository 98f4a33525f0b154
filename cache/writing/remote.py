"""A store that is being written to an object store: each object is put whole, or it is not there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

from cache.store import (
    MARKERS,
    METADATA,
    TABLE,
    RemotePath,
    marker_file,
    require_store,
    shard_file,
    shard_parts,
)
from cache.writing.leases import StoreLeases
from emonet.runtime import ignore


@final
class RemoteStore:
    """What a writer does to the objects of one store; the counterpart of `DiskStore`.

    Args:
        path: URL of the folder NAME.zarr.
    """

    def __init__(self, path: RemotePath) -> None:
        self.path = path
        self.locks = StoreLeases(path)
        self._objects = path.objects

    def open(self) -> None:
        """Nothing: folders need not be made."""

    def exists(self) -> bool:
        """Whether there is a store, or a damaged one; not one of which only the beginning was put."""
        return (self.path / METADATA).is_file() or (self.path / MARKERS).is_dir() or (self.path / TABLE).is_file()

    def make(self, fill: Callable[[Path], None], replacing: Callable[[], None]) -> None:
        """Make the empty store on this machine and put it, the attributes last: without them there is none.

        Args:
            fill: makes it at a path that does not exist.
            replacing: called before a store that is there goes.
        """
        with tempfile.TemporaryDirectory(prefix="emonet-") as folder:
            fresh = Path(folder) / "store.zarr"
            fill(fresh)
            replacing()
            if self.exists():
                self.remove()
            files = [file.relative_to(fresh).as_posix() for file in fresh.rglob("*") if file.is_file()]
            for name in sorted(files, key=lambda name: name == METADATA):
                self._objects.write(name, fresh / name)

    tidy_around = tidy = begin = staticmethod(ignore)  # nothing is ever half-written

    def unfinish(self) -> None:
        """Remove the table: a store with a table is a finished one."""
        self._objects.delete([TABLE])

    def put_shard(self, shard: int, array: str, chunks: Sequence[bytes | None]) -> int:
        """Put a shard of an array whole; none where all its chunks are missing.

        Returns:
            Its size in bytes.
        """
        key = self._key(shard_file(self.path, shard, array))
        if all(chunk is None for chunk in chunks):
            self._objects.delete([key])  # left by a killed writer
            return 0
        parts = list(shard_parts(chunks))
        self._objects.write(key, parts)
        return sum(map(len, parts))

    def put(self, name: str, content: Sequence[bytes]) -> None:
        """Put any object of the store."""
        self._objects.write(name, content)

    def delete(self, name: str) -> None:
        """Delete an object of the store, if it is there."""
        self._objects.delete([name])

    def put_marker(self, shard: int, content: bytes) -> None:
        """Say that a shard is whole."""
        self._objects.write(self._key(marker_file(self.path, shard)), content)

    def put_table(self, content: bytes) -> None:
        """Put the table, which makes the store readable."""
        self._objects.write(TABLE, content)

    def require_removable(self) -> None:
        """Check that what is there is a store, or nothing.

        Raises:
            RequestError: if it is something else.
        """
        require_store(self.path)

    def remove(self) -> None:
        """Remove the store, and nothing that is not one: table and markers first, so that it never looks finished.

        Raises:
            RequestError: if what is there is no store of emonet.
        """
        self.require_removable()
        keys = [key for key, _ in self._objects.list()]
        order = (
            lambda key: key == TABLE,
            lambda key: key.startswith(f"{MARKERS}/"),
            lambda key: key not in (TABLE, METADATA) and not key.startswith(f"{MARKERS}/"),
            lambda key: key == METADATA,
        )
        for chosen in order:
            self._objects.delete([key for key in keys if chosen(key)])

    def free_bytes(self) -> int | None:
        """None: a bucket has no end."""
        return None

    def _key(self, path: object) -> str:
        return str(path).removeprefix(f"{self.path}/")
