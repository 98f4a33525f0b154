"""A store that is being written on a disk: files that are synced and renamed, folders that take their place whole."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

from cache.store import MARKERS, TABLE, marker_file, require_store, shard_file, shard_parts
from cache.writing.locks import StoreLocks
from emonet.runtime import durable


@final
class DiskStore:
    """What a writer does to the files of one store.

    Args:
        path: the folder NAME.zarr.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.locks = StoreLocks(path)

    def open(self) -> None:
        """Make the folder that the store lies in, so that it can be locked."""
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def exists(self) -> bool:
        """Whether there is something in its place."""
        return self.path.exists()

    def make(self, fill: Callable[[Path], None], replacing: Callable[[], None]) -> None:
        """Make the empty store beside its place and rename it: a kill leaves none without attributes.

        Args:
            fill: makes it at a path that does not exist.
            replacing: called before a store that is there goes.
        """
        fresh = _beside(self.path)
        try:
            fill(fresh)
            (fresh / MARKERS).mkdir()
            for file in fresh.rglob("*"):
                if file.is_file():
                    durable.sync_up_to(file, fresh)
            replacing()
            if self.path.exists():
                self.remove()
            fresh.rename(self.path)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)  # is there only if it has not taken its place
        durable.sync(self.path.parent)

    def tidy_around(self) -> None:
        """Remove what killed writers left beside the store; to be done by one that is alone."""
        for stale in self.path.parent.glob(f".{self.path.name}.*{durable.PARTIAL}"):
            shutil.rmtree(stale, ignore_errors=True)

    def tidy(self) -> None:
        """Remove what killed writers left half-written; to be done while nobody writes."""
        durable.remove_partials(self.path)

    def begin(self) -> None:
        """Make it ready for shards."""
        (self.path / MARKERS).mkdir(exist_ok=True)  # copies of a store, in git or object stores, lose empty folders

    def unfinish(self) -> None:
        """Remove the table: a store with a table is a finished one."""
        (self.path / TABLE).unlink(missing_ok=True)

    def put_shard(self, shard: int, array: str, chunks: Sequence[bytes | None]) -> int:
        """Write a shard of an array and sync it; none where all its chunks are missing.

        Returns:
            Its size in bytes.
        """
        file = shard_file(self.path, shard, array)
        # What is there was left by a killed writer, or by one that is slow to learn that its shard was handed to
        # another: the same bytes, which are replaced at once and never missing.
        if all(chunk is None for chunk in chunks):
            file.unlink(missing_ok=True)
            return 0
        self.put(file.relative_to(self.path).as_posix(), list(shard_parts(chunks)))
        return file.stat().st_size

    def put(self, name: str, content: Sequence[bytes]) -> None:
        """Write any file of the store and sync it."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        durable.write(file, content)
        durable.sync_up_to(file, self.path)

    def delete(self, name: str) -> None:
        """Remove a file of the store, if it is there."""
        (self.path / name).unlink(missing_ok=True)

    def put_marker(self, shard: int, content: bytes) -> None:
        """Say that a shard is whole."""
        durable.write(marker_file(self.path, shard), content)

    def put_table(self, content: bytes) -> None:
        """Write the table, which makes the store readable."""
        durable.write(self.path / TABLE, content)

    def require_removable(self) -> None:
        """Check that what is there is a store, or nothing.

        Raises:
            RequestError: if it is something else.
        """
        if any(self.path.iterdir()):
            require_store(self.path)

    def remove(self) -> None:
        """Remove the store, and nothing that is not one.

        Raises:
            RequestError: if the folder does not hold a store of emonet.
        """
        self.require_removable()
        aside = _beside(self.path)
        self.path.rename(aside)  # at once, so that a kill leaves no store that is half there
        shutil.rmtree(aside)

    def free_bytes(self) -> int | None:
        """Room for more."""
        return shutil.disk_usage(self.path).free


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{time.time_ns()}{durable.PARTIAL}")
