"""The writer of a store: whole shards, on disk before they count; a killed run resumes; processes may share it."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import final

import numpy as np
from jaxtyping import Float16

from cache.store import (
    LABEL,
    MARKERS,
    TABLE,
    TIERS,
    ExtractionRecord,
    ShardMarker,
    create,
    fingerprint,
    marker_file,
    read_attributes,
    read_marker,
    read_silence,
    require_store,
    table_bytes,
)
from cache.writing.callbacks import Notices
from cache.writing.locks import StoreLocks
from cache.writing.shard_writer import ClipCodec, ShardSink
from emonet.clips import Corpus
from emonet.errors import EmonetError, RequestError
from emonet.runtime import durable

RESERVE = 64 << 20  # bytes left free for the table, markers and whatever else the machine does
BEHIND = 2  # shards that may wait to be written while the next one is computed
POLL = 0.2  # seconds between attempts at shards that other processes are writing
LOOK = 1.0  # seconds; listing the markers of a million clips takes milliseconds, on a network drive far more
_FORCE = "the same command with --force, which makes the store anew"


@dataclass(frozen=True, slots=True)
class Part:
    """A share of the work, for job arrays: the shards whose position leaves `index` when divided by `count`.

    Args:
        count: parts in all.
        index: this one, from 0.

    Raises:
        RequestError: if `index` is not below `count`.
    """

    count: int = 1
    index: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise RequestError(
                "there is no such part of the extraction",
                expected=f"--shard-index 0 to {self.count - 1}, as --num-shards is {self.count}",
                found=self.index,
            )


Silence = Callable[[], Float16[np.ndarray, "frames width"]]


@final
class StoreWriter:
    """Makes or completes the store of one corpus; a context manager.

    Several processes, also on several machines with one file system, may fill one store at once: `claims` hands each
    shard to one of them. A process that dies loses its claims and nothing else.

    Args:
        path: the folder NAME.zarr.
        record: what the store is made from.
        corpus: its clips, in the order of the rows.
        force: start anew where a store already exists.
        part: which shards are this process' own.
        threads: that compress (count).
        silence: makes what the states that are not kept read as; asked once, by the process that makes the store.
        any_batch_size: go on with the batch size of a store that is there, whatever the record says.
        notices: called on entering.

    Raises:
        RequestError: if a part of several is to start anew; on entering, if the store there was made from something
            else, the folder is no store, or it may not be written.
        EmonetError: on entering, if `force` is set and another process writes this store, this process writes
            it already, the file system has no locks, or the disk has too little space.
    """

    def __init__(
        self,
        path: Path,
        record: ExtractionRecord,
        corpus: Corpus,
        *,
        force: bool = False,
        part: Part | None = None,
        threads: int = 2,
        silence: Silence | None = None,
        any_batch_size: bool = False,
        notices: Notices | None = None,
    ) -> None:
        self.path = path.resolve()  # what is renamed is the folder, not a link to it
        self.record = record
        self._corpus = corpus
        self._force = force
        self._part = part or Part()
        self._make_silence = silence
        self._any_batch_size = any_batch_size
        self._notices = notices or Notices()
        self._locks = StoreLocks(self.path)
        self._threads = threads
        self._opened = ExitStack()
        self._behind = threading.Semaphore(BEHIND)
        self._commits: list[Future[None]] = []
        self._there: set[int] = set()  # shards that are known to have their marker
        self._looked = -LOOK  # when all were looked for
        if force and self._part.count > 1:
            raise RequestError(
                "parts of a job array cannot each start anew",
                where=self.path,
                found=f"--force with --num-shards {self._part.count}",
                hint="remove the store (or run --force without --num-shards) once, then the parts without --force",
            )

    def __enter__(self) -> StoreWriter:
        with ExitStack() as opened, durable.explained(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            opened.enter_context(self._locks)
            with self._locks.preparing(self._notices.waiting):
                self._prepare(alone=self._locks.join())
            self._check_space()
            self._compressors = opened.enter_context(ThreadPoolExecutor(self._threads, thread_name_prefix="compress"))
            self._committer = opened.enter_context(ThreadPoolExecutor(1, thread_name_prefix="write"))
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._opened:  # shards whose states are complete are still written, whatever stopped the rest
            if kind is None:
                self.flush()

    def pending(self, *, fresh: bool = True) -> list[int]:
        """Shards without a marker, in order.

        Args:
            fresh: look for all of them now; without, that is done at most once a second, so that shards of other
                processes may be noticed late.
        """
        if fresh or time.monotonic() - self._looked >= LOOK:
            self._there = _markers(self.path)
            self._looked = time.monotonic()
        return [shard for shard in range(self.record.shards) if shard not in self._there]

    def finished_clips(self) -> int:
        """Clips in shards that are there (count)."""
        return self.record.clips - sum(len(self.record.rows(shard)) for shard in self.pending())

    def claims(self, *, wait: bool = True) -> Iterator[int]:
        """Shards of this part to be written by this process, each claimed when it is taken from the iterator.

        Args:
            wait: when only shards are left that other processes are writing, wait, and take over from those that die.
                Every shard claimed before must be committed by then: two processes that hold unfinished shards and
                wait for each other's never end. Without, it ends there.
        """
        mine: set[int] = set()
        while waiting := [shard for shard in self.pending(fresh=False) if self._is_own(shard) and shard not in mine]:
            claimed = False
            for shard in waiting:
                if self._locks.claim(shard):
                    if marker_file(self.path, shard).exists():  # finished since the last look
                        self._there.add(shard)
                        self._locks.release(shard)
                        continue
                    claimed = True
                    mine.add(shard)
                    yield shard
            if not claimed and not wait:
                return
            if not claimed:
                time.sleep(POLL)

    def begin(self, shard: int) -> ShardSink:
        """Start a claimed shard."""
        return ShardSink(shard, self.record, self._codec, self._compressors, self._commit)

    def flush(self) -> None:
        """Wait until every committed shard is on disk.

        Raises:
            EmonetError: what went wrong while one was written, e.g. the disk is full.
        """
        while self._commits:
            self._commits.pop(0).result()

    def markers(self) -> list[ShardMarker]:
        """The markers of all shards, in order; the store must be complete."""
        return [read_marker(self.path, self.record, shard) for shard in range(self.record.shards)]

    def finish(self) -> str:
        """Write the table of clips, which makes the store readable. Several processes may do so at once.

        Returns:
            The store's fingerprint.

        Raises:
            EmonetError: if a shard is not there yet, or the disk is full.
        """
        self.flush()
        if waiting := self.pending():
            raise EmonetError(f"{len(waiting)} shards are not written yet", where=self.path, found=waiting[0])
        markers = self.markers()
        mark = fingerprint(self.record, markers)
        with durable.explained(self.path), self._locks.preparing():
            durable.remove_partials(self.path)  # every shard is there, so whatever is half-written has no writer
            durable.write(self.path / TABLE, table_bytes(self._columns(markers), self._corpus.targets, mark))
        return mark

    def discard(self) -> None:
        """Remove the store, unless another process writes it: then it is left to that one."""
        with durable.explained(self.path.parent), self._locks.preparing():
            if self._locks.alone() and self.path.exists():
                remove_store(self.path)

    def require_there(self) -> None:
        """Check that nobody has removed the store.

        Raises:
            EmonetError: if somebody has.
        """
        if not self.path.exists():
            raise EmonetError(
                "the feature store has been removed while it was written",
                where=self.path,
                found="no such folder",
                hint="the same command again, which makes it anew",
            )

    def _commit(self, sink: ShardSink) -> None:
        """Write a sink's shard behind the compute; waits while too many are to be written already."""
        for done in [commit for commit in self._commits if commit.done()]:
            self._commits.remove(done)
            done.result()
        self._behind.acquire()
        self._commits.append(self._committer.submit(self._write, sink))

    def _write(self, sink: ShardSink) -> None:
        try:
            with durable.explained(self.path):
                marker = sink.store(self.path)
                durable.write(marker_file(self.path, sink.shard), marker.model_dump_json().encode())
            self._there.add(sink.shard)
        finally:
            self._locks.release(sink.shard)
            self._behind.release()

    def _columns(self, markers: list[ShardMarker]) -> dict[str, object]:
        seconds = [second for marker in markers for second in marker.seconds]
        reasons = {row: why for marker in markers for row, why in marker.failures.items()}
        notices = {row: found for marker in markers for row, found in marker.notices.items()}
        clips, targets, heard = self._corpus.clips, self._corpus.targets, self.record.speech_frames
        return {
            **{name: [getattr(clip, name) for clip in clips] for name in ("id", "split", "speaker", "language")},
            "seconds": seconds,
            "speech_frames": [0 if second is None else heard(second) for second in seconds],
            "failed": [reasons.get(row) for row in range(len(clips))],
            "sound_digest": [one for marker in markers for one in marker.contents or [None] * len(marker.seconds)],
            "sound_notices": ["; ".join(text for _, text in notices.get(row, ())) or None for row in range(len(clips))],
            **({LABEL: [clip.label for clip in clips]} if self._corpus.labels else {}),
            **dict(zip(targets.ids, self._corpus.scores().T, strict=True)),
        }

    def _is_own(self, shard: int) -> bool:
        return shard % self._part.count == self._part.index

    def _prepare(self, *, alone: bool) -> None:
        if alone:
            for stale in self.path.parent.glob(f".{self.path.name}.*{durable.PARTIAL}"):
                shutil.rmtree(stale, ignore_errors=True)  # left by a killed writer
        if self._force and self.path.exists():
            if not alone:
                raise EmonetError(
                    "another process is writing this store", where=self.path, hint="wait until it has finished"
                )
            _require_removable(self.path)
        if self._force or not self.path.exists():
            self._create()
        record, targets, _ = read_attributes(self.path)
        if self._any_batch_size:  # known only now: what other processes chose, they chose under the same lock
            self.record = ExtractionRecord.model_validate(self.record.model_dump() | {"batch_size": record.batch_size})
        record.require(self.record, where=self.path, hint=_FORCE, targets=(targets, self._corpus.targets))
        (self.path / MARKERS).mkdir(exist_ok=True)  # copies of a store, in git or object stores, lose empty folders
        self._codec = ClipCodec(record, read_silence(self.path) if record.kept == "speech" else None)
        if alone:
            durable.remove_partials(self.path)
        if self.pending():
            (self.path / TABLE).unlink(missing_ok=True)  # a store with a table is a finished one

    def _create(self) -> None:
        """Make the empty store beside its place and rename it: a kill leaves none without attributes."""
        fresh = _beside(self.path)
        silence = self._make_silence() if self._make_silence and self.record.kept == "speech" else None
        try:
            create(fresh, self.record, self._corpus.targets, self._corpus.note, silence, self._corpus.classes)
            (fresh / MARKERS).mkdir()
            for file in fresh.rglob("*"):
                if file.is_file():
                    durable.sync_up_to(file, fresh)
            self._notices.replacing()
            if self.path.exists():
                remove_store(self.path)
            fresh.rename(self.path)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)  # is there only if it has not taken its place
        durable.sync(self.path.parent)

    def _check_space(self) -> None:
        own = [shard for shard in self.pending() if self._is_own(shard)]
        needed = sum(len(self.record.rows(shard)) for shard in own) * _stored_bytes(self.record)
        free = shutil.disk_usage(self.path).free
        if needed + RESERVE > free:
            raise EmonetError(
                "the disk has too little space for the states",
                where=self.path,
                expected=f"{(needed + RESERVE) / 1e9:.2f} GB free (before compression)",
                found=f"{free / 1e9:.2f} GB",
                hint="free some space, or --runs FOLDER on a larger disk",
            )


def remove_store(path: Path) -> None:
    """Remove a store, and nothing that is not one.

    Raises:
        RequestError: if the folder does not hold a store of emonet.
    """
    _require_removable(path)
    aside = _beside(path)
    path.rename(aside)  # at once, so that a kill leaves no store that is half there
    shutil.rmtree(aside)


def _require_removable(path: Path) -> None:
    if any(path.iterdir()):
        require_store(path)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{time.time_ns()}{durable.PARTIAL}")


def _markers(path: Path) -> set[int]:
    """Shards that have a marker."""
    return {int(marker.stem) for marker in (path / MARKERS).glob("*.json")}


def _stored_bytes(record: ExtractionRecord) -> int:
    """The most that a clip takes in a store: its chunk before compression, and its scales."""
    tier = TIERS[record.codec]
    states = record.shape[1] * record.width * np.dtype(tier.dtype).itemsize
    return states + (record.width * np.dtype("float32").itemsize if tier.scaled else 0)
