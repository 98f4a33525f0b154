"""Filling a store: one writer at a time, shard by shard, each whole and on disk before it counts."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import final

import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import Float16
from pydantic import ValidationError

from cache.record import MARKERS, ExtractionRecord, ShardMarker, fingerprint, marker_file
from cache.store import (
    TABLE,
    create,
    open_array,
    read_attributes,
    require_store,
    shard_file,
    table_bytes,
)
from emonet import durable
from emonet.clips import Corpus, Rejection
from emonet.errors import EmonetError
from emonet.windows import Window

RESERVE = 64 << 20  # bytes left free for the table, markers and whatever else the machine does
_FORCE = "the same command with --force, which makes the store anew"


@final
class StoreWriter:
    """Makes or completes the store of one corpus; a context manager that holds the store's lock.

    Args:
        path: the folder NAME.zarr.
        record: what the store is made from.
        corpus: its clips, in the order of the rows.
        force: start anew where a store is there already.

    Raises:
        RequestError: on entering, if the store there was made from something else, the folder is no store,
            or it may not be written.
        EmonetError: on entering, if another process writes this store or the disk has too little space.
    """

    def __init__(self, path: Path, record: ExtractionRecord, corpus: Corpus, *, force: bool = False) -> None:
        self.path = path
        self.record = record
        self._corpus = corpus
        self._force = force
        self._lock = FileLock(path.with_name(f".{path.name}.lock"))

    def __enter__(self) -> StoreWriter:
        with durable.explained(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._acquire()
            try:
                self._prepare()
                self._check_space()
            except BaseException:
                self._lock.release()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def pending(self) -> list[int]:
        """Shards without a marker, in order."""
        done = {int(marker.stem) for marker in (self.path / MARKERS).glob("*.json")}
        return [shard for shard in range(self.record.shards) if shard not in done]

    def write(
        self,
        shard: int,
        states: Float16[np.ndarray, "clips frames width"],
        seconds: Sequence[float | None],
        failures: Mapping[int, str],
    ) -> ShardMarker:
        """Store one shard: compress, write, sync, then mark it done.

        Args:
            shard: its position, from 0.
            states: one entry per clip of the shard; those of failed clips are not stored.
            seconds: audio heard of each clip, in seconds; None for failed clips.
            failures: row of the store -> reason.

        Raises:
            EmonetError: if the states do not fit the shard or are not finite, or the disk is full.
        """
        rows = self.record.rows(shard)
        usable = np.array([row not in failures for row in rows], bool)
        self._check(states, len(seconds), rows, usable)
        with durable.explained(self.path):
            file = shard_file(self.path, shard)
            file.unlink(missing_ok=True)  # left by a killed writer
            whole = states if usable.all() else np.where(usable[:, None, None], states, np.float16(np.nan))
            open_array(self.path, mode="r+")[rows.start : rows.stop] = whole
            if usable.any():  # Zarr does not write a shard in which everything is missing
                durable.sync_up_to(file, self.path)
            marker = ShardMarker(
                shard=shard,
                seconds=tuple(seconds),
                failures=dict(failures),
                stored_bytes=file.stat().st_size if usable.any() else 0,
                digest=states_digest(states[usable]),
            )
            durable.write(marker_file(self.path, shard), marker.model_dump_json().encode())
        return marker

    def markers(self) -> list[ShardMarker]:
        """The markers of all shards, in order; the store must be complete."""
        return [read_marker(self.path, shard) for shard in range(self.record.shards)]

    def failures(self) -> list[Rejection]:
        """The clips without states, in order; the store must be complete."""
        reasons = {row: why for marker in self.markers() for row, why in marker.failures.items()}
        return [Rejection(self._corpus.clips[row].id, why) for row, why in sorted(reasons.items())]

    def finish(self) -> str:
        """Write the table of clips, which makes the store readable.

        Returns:
            The store's fingerprint.

        Raises:
            EmonetError: if a shard is not there yet, or the disk is full.
        """
        if waiting := self.pending():
            raise EmonetError(f"{len(waiting)} shards are not written yet", where=self.path, found=waiting[0])
        markers = self.markers()
        seconds = [second for marker in markers for second in marker.seconds]
        reasons = {row: why for marker in markers for row, why in marker.failures.items()}
        window, clips, targets = Window(self.record.window_seconds), self._corpus.clips, self._corpus.targets
        columns = {
            **{name: [getattr(clip, name) for clip in clips] for name in ("id", "split", "speaker", "language")},
            "seconds": seconds,
            "speech_frames": [0 if second is None else window.speech_frames(second) for second in seconds],
            "failed": [reasons.get(row) for row in range(len(clips))],
            **dict(zip(targets.ids, self._corpus.scores().T, strict=True)),
        }
        mark = fingerprint(self.record, markers)
        with durable.explained(self.path):
            durable.write(self.path / TABLE, table_bytes(columns, targets, mark))
        return mark

    def discard(self) -> None:
        """Remove the store."""
        remove_store(self.path)

    def _acquire(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise EmonetError(
                "another process is writing this store", where=self.path, hint="wait until it has finished"
            ) from error

    def _prepare(self) -> None:
        for stale in self.path.parent.glob(f".{self.path.name}.*{durable.PARTIAL}"):
            shutil.rmtree(stale, ignore_errors=True)  # left by a killed writer
        if self._force and self.path.exists():
            remove_store(self.path)
        if not self.path.exists():
            self._create()
        record, _, _ = read_attributes(self.path)
        record.require(self.record, where=self.path, hint=_FORCE)
        durable.remove_partials(self.path)
        if self.pending():
            (self.path / TABLE).unlink(missing_ok=True)  # a store with a table is a finished one

    def _create(self) -> None:
        """Make the empty store beside its place and rename it: a kill leaves none without attributes."""
        fresh = _beside(self.path)
        create(fresh, self.record, self._corpus.targets, self._corpus.note)
        (fresh / MARKERS).mkdir()
        for metadata in fresh.rglob("zarr.json"):
            durable.sync_up_to(metadata, fresh)
        fresh.rename(self.path)
        durable.sync(self.path.parent)

    def _check_space(self) -> None:
        needed = sum(len(self.record.rows(shard)) for shard in self.pending()) * self.record.clip_bytes
        free = shutil.disk_usage(self.path).free
        if needed + RESERVE > free:
            raise EmonetError(
                "the disk has too little space for the states",
                where=self.path,
                expected=f"{(needed + RESERVE) / 1e9:.2f} GB free (before compression)",
                found=f"{free / 1e9:.2f} GB",
                hint="free some space, or --runs FOLDER on a larger disk",
            )

    def _check(self, states: np.ndarray, seconds: int, rows: range, usable: np.ndarray) -> None:
        expected = (len(rows), self.record.frames, self.record.width)
        if states.shape != expected or states.dtype != np.float16 or seconds != len(rows):
            found = f"{states.dtype} {states.shape} with {seconds} lengths"
            raise EmonetError("the states do not fit the shard", expected=f"float16 {expected}", found=found)
        if not np.isfinite(states[usable]).all():
            raise EmonetError("states that are to be stored are not finite", where=f"{self.path}, rows {rows}")


def read_marker(path: Path, shard: int) -> ShardMarker:
    """The marker of a shard.

    Raises:
        EmonetError: if it is missing or damaged.
    """
    file = marker_file(path, shard)
    try:
        return ShardMarker.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise EmonetError(
            f"the marker of shard {shard} cannot be read",
            where=file,
            found=error,
            hint=f"rm {file}, and extract again",
        ) from error


def states_digest(states: Float16[np.ndarray, "clips frames width"]) -> str:
    """SHA-256 in hex over states as float16, little-endian, in C order."""
    return hashlib.sha256(np.ascontiguousarray(states, "<f2").data).hexdigest()


def remove_store(path: Path) -> None:
    """Remove a store, and nothing that is not one.

    Raises:
        RequestError: if the folder does not hold a store of emonet.
    """
    if any(path.iterdir()):
        require_store(path)
    aside = _beside(path)
    path.rename(aside)  # at once, so that a kill leaves no store that is half there
    shutil.rmtree(aside)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{time.time_ns()}{durable.PARTIAL}")
