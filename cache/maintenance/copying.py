"""Copying a store, between disks and object stores: shard by shard, checked, resumable, readable when it is whole."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import final

from pydantic import Field

from cache.store import (
    METADATA,
    SCALES,
    SILENCE,
    STATES,
    TABLE,
    DamagedChunkError,
    FeatureStore,
    Place,
    ShardMarker,
    StorePlace,
    check_shard,
    file_size,
    marked_shards,
    marker_file,
    read_marker,
    read_summary,
    shard_file,
)
from cache.writing import Written, written_at
from emonet.errors import EmonetError, RequestError
from emonet.runtime import Progress, durable, ignore
from emonet.schema import Schema

AT_ONCE = 4  # shards on their way, each whole in memory


class CopyReport(Schema):
    """What `emonet store copy` did."""

    source: StorePlace
    """The store that was copied."""
    target: StorePlace
    """The copy."""
    clips: int = Field(ge=0)
    """Of the store (count)."""
    shards: int = Field(ge=0)
    """Of the store (count)."""
    resumed: int = Field(ge=0)
    """Of these, those that were in the copy already (count)."""
    bytes: int = Field(ge=0)
    """Of shards that this run copied."""
    seconds: float = Field(ge=0)
    """How long it took (seconds)."""
    checked: bool
    """Whether each shard was read back from the copy."""
    fingerprint: str
    """SHA-256 over what both were made from and hold."""

    @property
    def megabytes_per_second(self) -> float:
        """Of shards that this run copied (MB/s)."""
        return self.bytes / 1e6 / self.seconds if self.seconds else 0.0


def copy_store(
    source: Place, target: Place, *, force: bool = False, check: bool = True, progress: Progress = ignore
) -> CopyReport:
    """Copy a finished store; a copy that was stopped goes on where it stopped. Its table comes last.

    Every checksum of a shard is checked before it is written.

    Args:
        source: the store.
        target: where its copy shall lie, as NAME.zarr.
        force: replace another store that is there.
        check: read each shard back from the copy and compare it.
        progress: called with clips copied.

    Raises:
        RequestError: if there is no finished store, both are the same, or something else is where the copy shall lie.
        EmonetError: if a shard is damaged, the copy is not what was written, or another process writes it.
    """
    started, store = time.monotonic(), FeatureStore.open(source)
    source, target = source.resolve(), target.resolve()
    _require_apart(source, target)
    files = written_at(target)
    with durable.explained(target.parent, kept="every copied shard is kept"):
        files.open()
        with files.locks as locks:
            with locks.preparing():
                if not locks.join() and not locks.alone(sure=True):
                    hint = "wait until it has finished"
                    raise EmonetError("another process is writing the copy", where=target, hint=hint)
                files.tidy_around()
                _begin(store, files, force=force)
                files.begin()
                files.tidy()
            copying = _Copying(store, files, check=check)
            resumed, size = copying.run(progress)
            files.put_table((store.path / TABLE).read_bytes())
    if read_summary(target)[1] != store.fingerprint:
        what = "the store changed while it was copied"
        raise EmonetError(what, where=source, hint="the same command again")
    return CopyReport(
        source=source,
        target=target,
        clips=len(store),
        shards=store.record.shards,
        resumed=resumed,
        bytes=size,
        seconds=time.monotonic() - started,
        checked=check,
        fingerprint=store.fingerprint,
    )


def _require_apart(source: Place, target: Place) -> None:
    if f"{target}/".startswith(f"{source}/") or f"{source}/".startswith(f"{target}/"):
        raise RequestError("a store cannot be copied into itself", where=target, hint="another folder, as in NAME.zarr")


def _begin(store: FeatureStore, files: Written, *, force: bool) -> None:
    """Make the copy ready for shards, unless it is begun already."""
    target, group = files.path, (store.path / METADATA).read_bytes()
    if files.exists():
        try:
            same = (target / METADATA).read_bytes() == group
        except OSError:
            same = False
        finished = same and (target / TABLE).is_file()
        if same and not force and (not finished or read_summary(target)[1] == store.fingerprint):
            return
        files.require_removable()
        if not force and next(iter(target.iterdir()), None) is not None:
            hint = "another place, or --force to replace it"
            raise RequestError("another store is where the copy shall lie", where=target, hint=hint)

    def fill(path: Path) -> None:
        for name in _metadata(store):
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes((store.path / name).read_bytes())

    files.make(fill, ignore)


def _metadata(store: FeatureStore) -> Iterator[str]:
    """Names of what is neither shard, marker nor table."""
    for name in (METADATA, *(f"{array}/{METADATA}" for array in (STATES, SCALES, SILENCE)), f"{SILENCE}/c/0/0"):
        if (store.path / name).is_file():
            yield name


@final
class _Copying:
    """The shards of one store on their way."""

    def __init__(self, store: FeatureStore, files: Written, *, check: bool) -> None:
        self._store, self._files, self._check = store, files, check
        self._there = marked_shards(files.path)

    def run(self, progress: Progress) -> tuple[int, int]:
        """Copy what is not there yet.

        Returns:
            Shards that were there, and bytes that were copied.
        """
        record, done, resumed, size = self._store.record, 0, 0, 0
        under_way: deque[tuple[int, Future[int | None]]] = deque()
        progress(0, record.clips)
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="copy") as pool:
            try:
                for shard in range(record.shards + AT_ONCE):
                    if shard < record.shards:
                        under_way.append((shard, pool.submit(self._shard, shard)))
                    if shard >= AT_ONCE - 1 and under_way:
                        first, copied = under_way.popleft()
                        moved = copied.result()
                        resumed, size = resumed + (moved is None), size + (moved or 0)
                        done += len(record.rows(first))
                        progress(done, record.clips)
            finally:
                pool.shutdown(cancel_futures=True)
        return resumed, size

    def _shard(self, shard: int) -> int | None:
        """Copy a shard; its bytes, or None if it was there."""
        source, target, record = self._store.path, self._files.path, self._store.record
        marker = read_marker(source, record, shard)
        written = marker_file(source, shard).read_bytes()
        names = [str(shard_file(source, shard, array)).removeprefix(f"{source}/") for array in (STATES, SCALES)]
        if shard in self._there and self._is_there(shard, written, names, marker):
            return None
        contents = {name: self._read(name, marker) for name in names}
        size = sum(len(content or b"") for content in contents.values())
        if size != marker.stored_bytes:
            raise self._damaged(shard, f"{size:,} bytes, its marker says {marker.stored_bytes:,}")
        for name, content in contents.items():
            if content is None:
                self._files.delete(name)
                continue
            self._files.put(name, [content])
            if self._check and (target / name).read_bytes() != content:
                what = f"shard {shard} of the copy is not what was written"
                raise EmonetError(what, where=target / name, hint="the same command again")
        self._files.put_marker(shard, written)
        return size

    def _is_there(self, shard: int, written: bytes, names: list[str], marker: ShardMarker) -> bool:
        target = self._files.path
        sizes = sum(file_size(target / name) for name in names)
        return sizes == marker.stored_bytes and marker_file(target, shard).read_bytes() == written

    def _read(self, name: str, marker: ShardMarker) -> bytes | None:
        try:
            content = (self._store.path / name).read_bytes()
        except FileNotFoundError:
            return None
        try:
            check_shard(content, self._store.record.shard_clips)
        except DamagedChunkError as error:
            raise self._damaged(marker.shard, str(error)) from error
        return content

    def _damaged(self, shard: int, reason: str) -> EmonetError:
        where, hint = self._store.path, f"emonet store verify {self._store.path} --deep"
        return EmonetError(f"shard {shard} of the store is damaged", where=where, found=reason, hint=hint)
