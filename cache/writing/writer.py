"""The writer of a store: whole shards, on disk before they count; a killed run resumes; processes may share it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeAlias, final

import numpy as np
from jaxtyping import Float16

from cache.store import (
    TIERS,
    ExtractionRecord,
    Place,
    ShardMarker,
    create,
    fingerprint,
    marked_shards,
    marker_file,
    place,
    read_attributes,
    read_silence,
    table_bytes,
)
from cache.writing.callbacks import Notices
from cache.writing.clip_columns import clip_columns
from cache.writing.disk import DiskStore
from cache.writing.leases import StoreLeases
from cache.writing.locks import HandedOut, StoreLocks
from cache.writing.remote import RemoteStore
from cache.writing.shard_writer import ClipCodec, ShardSink
from emonet.clips import Corpus
from emonet.errors import EmonetError, RequestError
from emonet.runtime import durable, ignore

RESERVE = 64 << 20  # bytes left free for the table, markers and whatever else the machine does
BEHIND = 2  # shards that may wait to be written while the next one is computed
POLL = 0.2  # seconds between attempts at shards that other processes are writing
LOOK = 1.0  # seconds between two listings of the markers; of a million clips one takes a tenth of a second
RARELY = 20.0  # where a listing takes longer, on a network drive far longer: it is one twentieth of the time at most
_REMOTE = 10.0  # as many times rarer where each look is a request, or several
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
Written: TypeAlias = DiskStore | RemoteStore


def written_at(path: Place) -> Written:
    """What a writer does to the store at a place."""
    return DiskStore(path) if isinstance(path, Path) else RemoteStore(path)


@final
class StoreWriter:
    """Makes or completes the store of one corpus; a context manager.

    Several processes, also on several machines with one file system or object store, may fill one store at once:
    `claims` hands each shard to one of them. A process that dies loses its claims and nothing else.

    Args:
        path: the folder NAME.zarr, or its URL.
        record: what the store is made from.
        corpus: its clips, in the order of the rows.
        force: start anew where a store already exists.
        part: which shards are this process' own.
        threads: that compress (count).
        silence: makes what the states that are not kept read as; asked once, by the process that makes the store.
        any_batch_size: go on with the batch size of a store that is there, whatever the record says.
        notices: called on entering.
        handed_out: the shards, by another process, which has made the store and holds its locks.
        written: called, from another thread, with the marker of each shard that is on disk.

    Raises:
        RequestError: if a part of several is to start anew; on entering, if the store there was made from something
            else, the folder is no store, or it may not be written.
        EmonetError: on entering, if `force` is set and another process writes this store, this process writes
            it already, the file system has no locks, or the disk has too little space.
    """

    def __init__(
        self,
        path: Place | str,
        record: ExtractionRecord,
        corpus: Corpus,
        *,
        force: bool = False,
        part: Part | None = None,
        threads: int = 2,
        silence: Silence | None = None,
        any_batch_size: bool = False,
        notices: Notices | None = None,
        handed_out: bool = False,
        written: Callable[[ShardMarker], None] = ignore,
    ) -> None:
        self.path = place(path).resolve()  # what is renamed is the folder, not a link to it
        self.record = record
        self._corpus = corpus
        self._force = force
        self._part = part or Part()
        self._make_silence = silence
        self._any_batch_size = any_batch_size
        self._notices = notices or Notices()
        self._files = written_at(self.path)
        self._locks: StoreLocks | StoreLeases | HandedOut = HandedOut() if handed_out else self._files.locks
        self._written = written
        self._rarer = 1.0 if isinstance(self.path, Path) else _REMOTE
        self._threads = threads
        self._opened = ExitStack()
        self._behind = threading.Semaphore(BEHIND)
        self._commits: list[Future[None]] = []
        self._there: set[int] = set()  # shards that are known to have their marker
        self._known: set[int] = set()  # those that `news` has told, or will tell next
        self._untold: deque[int] = deque()
        self._noting = threading.Lock()
        self._looked, self._took = -LOOK, 0.0  # when all were looked for, and how long that took (seconds)
        if force and self._part.count > 1:
            raise RequestError(
                "parts of a job array cannot each start anew",
                where=self.path,
                found=f"--force with --num-shards {self._part.count}",
                hint="remove the store (or run --force without --num-shards) once, then the parts without --force",
            )

    def __enter__(self) -> StoreWriter:
        with ExitStack() as opened, durable.explained(self.path.parent):
            self._files.open()
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
        self._look(fresh=fresh)
        return [shard for shard in range(self.record.shards) if shard not in self._there]

    def news(self, *, fresh: bool = False) -> list[int]:
        """Shards that have got their marker since this was asked last, in order, whoever wrote them.

        It takes as long as there are news, not shards; what others wrote is told late unless the look is `fresh`.
        """
        self._look(fresh=fresh)
        return sorted(self._untold.popleft() for _ in range(len(self._untold)))

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
                        self._note([shard])
                        self._locks.release(shard)
                        continue
                    claimed = True
                    mine.add(shard)
                    yield shard
            if not claimed and not wait:
                return
            if not claimed:
                time.sleep(POLL * self._rarer)

    def claim_all(self) -> list[int]:
        """All shards of this part that are not there, claimed at once, to be handed out; without those of others."""
        claimed = self._locks.claim_all(
            self._part.count, self._part.index, [shard for shard in self.pending() if self._is_own(shard)]
        )
        finished = set(claimed).difference(self.pending())  # since the look before
        for shard in finished:
            self._locks.release(shard)
        return [shard for shard in claimed if shard not in finished]

    def settle(self, shard: int) -> None:
        """A claimed shard was written by another process, which it was handed to."""
        self._note([shard])
        self._locks.release(shard)

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
        columns, summaries = clip_columns(self.path, self.record, self._corpus)
        mark = fingerprint(self.record, summaries)
        with durable.explained(self.path), self._locks.preparing():
            self._files.tidy()  # every shard is there, so whatever is half-written has no writer
            self._files.put_table(table_bytes(columns, self._corpus.targets, mark))
        return mark

    def discard(self) -> None:
        """Remove the store, unless another process writes it: then it is left to that one."""
        with durable.explained(self.path.parent), self._locks.preparing():
            if self._locks.alone() and self._files.exists():
                self._files.remove()

    def require_there(self) -> None:
        """Check that nobody has removed the store.

        Raises:
            EmonetError: if somebody has.
        """
        if not self._files.exists():
            raise EmonetError(
                "the feature store has been removed while it was written",
                where=self.path,
                found="no such folder" if isinstance(self.path, Path) else "nothing at this address",
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
                marker = sink.store(self._files.put_shard)
                self._files.put_marker(sink.shard, marker.model_dump_json().encode())
            self._note([sink.shard])
            self._written(marker)
        finally:
            self._locks.release(sink.shard)
            self._behind.release()

    def _look(self, *, fresh: bool) -> None:
        now = time.monotonic()
        if not fresh and now - self._looked < LOOK * max(self._rarer, RARELY * self._took):
            return
        with self._noting:  # so that none is noted after the listing and before what it found takes its place
            self._there = marked_shards(self.path)
            self._tell(self._there)
        self._looked = time.monotonic()
        self._took = self._looked - now

    def _note(self, shards: Iterable[int]) -> None:
        """These have their marker."""
        with self._noting:  # two threads may see the same one
            self._there.update(shards)
            self._tell(shards)

    def _tell(self, shards: Iterable[int]) -> None:
        """`news` tells those of them that it has not told."""
        fresh = sorted(set(shards) - self._known)
        self._known.update(fresh)
        self._untold.extend(fresh)

    def _is_own(self, shard: int) -> bool:
        return shard % self._part.count == self._part.index

    def _prepare(self, *, alone: bool) -> None:
        if isinstance(self._locks, HandedOut):
            self._follow()
            return
        there = self._files.exists()
        if alone:
            self._files.tidy_around()
        if self._force and there:
            if not alone and not self._locks.alone(sure=True):
                raise EmonetError(
                    "another process is writing this store", where=self.path, hint="wait until it has finished"
                )
            self._files.require_removable()
        if self._force or not there:
            silence = self._make_silence() if self._make_silence and self.record.kept == "speech" else None
            corpus = self._corpus
            self._files.make(
                lambda path: create(path, self.record, corpus.targets, corpus.note, silence, corpus.classes),
                self._notices.replacing,
            )
        self._follow()
        self._files.begin()
        if alone:
            self._files.tidy()
        if self.pending():
            self._files.unfinish()

    def _follow(self) -> None:
        """Take the store that is there as it is: whoever holds no locks must not make or tidy it."""
        record, targets, _ = read_attributes(self.path)
        if self._any_batch_size:  # known only now: what other processes chose, they chose under the same lock
            self.record = ExtractionRecord.model_validate(self.record.model_dump() | {"batch_size": record.batch_size})
        record.require(self.record, where=self.path, hint=_FORCE, targets=(targets, self._corpus.targets))
        self._codec = ClipCodec(record, read_silence(self.path) if record.kept == "speech" else None)

    def _check_space(self) -> None:
        own = [shard for shard in self.pending() if self._is_own(shard)]
        needed = sum(len(self.record.rows(shard)) for shard in own) * _stored_bytes(self.record)
        free = self._files.free_bytes()
        if free is not None and needed + RESERVE > free:
            raise EmonetError(
                "the disk has too little space for the states",
                where=self.path,
                expected=f"{(needed + RESERVE) / 1e9:.2f} GB free (before compression)",
                found=f"{free / 1e9:.2f} GB",
                hint="free some space, or --runs FOLDER on a larger disk",
            )


def _stored_bytes(record: ExtractionRecord) -> int:
    """The most that a clip takes in a store: its chunk before compression, and its scales."""
    tier = TIERS[record.codec]
    states = record.shape[1] * record.width * np.dtype(tier.dtype).itemsize
    return states + (record.width * np.dtype("float32").itemsize if tier.scaled else 0)
