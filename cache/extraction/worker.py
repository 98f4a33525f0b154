"""A worker of a cluster's extraction: it is handed shards, and answers with receipts; states stay where it is."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np

from cache.extraction.throughput import Meter, Speed
from cache.store import Place
from emonet.clips import Corpus
from emonet.configs import ExtractionConfig
from emonet.errors import AudioError, EmonetError, RequestError
from emonet.objects import size_of
from emonet.runtime import packed, require_versions

if TYPE_CHECKING:
    from cache.extraction.pipeline import Filling
    from cache.store import ExtractionRecord, ShardMarker
    from emonet.audio import Decoded
    from emonet.encoders import ReadyEncoder

SEEN = 5.0  # seconds until a network drive shows a new file
CLOCKS = 5.0  # seconds that two machines' clocks may differ before it is told


@dataclass(frozen=True)
class Job:
    """What every worker of an extraction is told.

    Args:
        corpus: its clips become the rows.
        place: folder or hub id that the encoder is loaded from.
        path: the folder NAME.zarr, or its URL.
        config: how.
        source: where the encoder came from, for the record.
        device: of each worker; None: its GPU.
        processors: of each worker (count).
        folder: that the driver works in.
        audio: where some of the corpus' audio is, path or address, if the driver sees it.
        probe: a file that the driver has written beside the store, and what stands in it.
        versions: of what must be the same everywhere.
    """

    corpus: Corpus
    place: str
    path: Place
    config: ExtractionConfig
    source: str
    device: str | None
    processors: int
    folder: Path
    audio: str | None
    probe: tuple[Place, str]
    versions: dict[str, str]


@dataclass(frozen=True)
class Ready:
    """A worker has its encoder.

    Args:
        record: what a store of this corpus and encoder is made from.
        decoders: processes that decode (count).
        clocks: seconds since 1970 where it is, when it was told to begin and when it was ready.
    """

    record: ExtractionRecord
    decoders: int
    clocks: tuple[float, float]


@dataclass(frozen=True)
class Receipt:
    """A shard is on disk.

    Args:
        marker: of the shard.
        speed: of the worker so far.
    """

    marker: ShardMarker
    speed: Speed


@dataclass(frozen=True)
class Refusal:
    """What a worker cannot or will not do, in words.

    Args:
        error: as `emonet.runtime.packed` makes it.
    """

    error: bytes


def different_clock(there: tuple[float, float], asked: float, answered: float) -> float:
    """By how much another machine's clock is ahead, in seconds; 0 where it may be right.

    Args:
        there: by its clock, when it was asked and when it answered.
        asked: by ours.
        answered: by ours.
    """
    ahead = min(there[0] - asked, 0.0) or max(there[1] - answered, 0.0)
    return ahead if abs(ahead) > CLOCKS else 0.0


@final
class ShardWorker:
    """Fills the shards that it is handed, as `cache.extraction.extract` fills those that it claims.

    An actor of Ray with several calls at a time: the next shards are decoded while one is encoded.
    """

    def __init__(self) -> None:
        self._opened = ExitStack()
        self._shards: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._receipts: dict[int, Future[Receipt]] = {}
        self._failed: BaseException | None = None
        self._is_ended = False
        self._thread: threading.Thread | None = None

    def placed(self) -> str:
        """Answers as soon as the process is there: the id of its node."""
        import ray

        node: str = ray.get_runtime_context().get_node_id()
        return node

    def begin(self, job: Job) -> Ready | Refusal:
        """Look whether this node can do the job, and load the encoder."""
        told = time.time()
        try:
            _require_same(job)
            from cache.extraction.run import decoding_workers, encoder_settings, record_of
            from emonet.encoders import open_encoder

            self._job = job
            self._encoder: ReadyEncoder = open_encoder(job.place, device=job.device, **encoder_settings(job.config))
            record = record_of(job.corpus, self._encoder, job.config, source=job.source)
            self._workers = decoding_workers(job.config, self._encoder.device, job.processors)
        except EmonetError as error:
            return Refusal(packed(error))
        return Ready(record, self._workers, (told, time.time()))

    def silence(self, record: ExtractionRecord) -> np.ndarray | Refusal:
        """The mean of silence that a store of speech alone is made with: one clip's size, once a store."""
        from cache.extraction.pipeline import silence_of
        from emonet.audio import Decoders

        try:
            with Decoders(self._workers, timeout=self._job.config.decode_timeout) as decoders:
                mean: np.ndarray = silence_of(record, self._job.corpus, self._encoder, decoders)
                return mean
        except EmonetError as error:
            return Refusal(packed(error))

    def join(self, record: ExtractionRecord) -> Refusal | None:
        """Open the store that the driver has prepared."""
        from cache.extraction.pipeline import Filling
        from cache.extraction.run import compressors
        from cache.writing import StoreWriter
        from emonet.audio import Decoders

        job = self._job
        decoders = Decoders(self._workers, timeout=job.config.decode_timeout)
        writer = StoreWriter(
            job.path,
            record,
            job.corpus,
            threads=compressors(self._workers, job.processors),
            handed_out=True,
            written=self._written,
        )
        self._meter = Meter(self._encoder.flops_per_clip, lambda: self._encoder.computed_seconds)
        try:
            writer.require_there()
            self._opened.enter_context(decoders)
            self._opened.enter_context(writer)
        except EmonetError as error:
            return Refusal(packed(error))
        filling = Filling(writer, job.corpus, self._encoder, decoders, self._meter, self)
        self._thread = threading.Thread(target=self._work, args=(filling,), name="fill", daemon=True)
        self._thread.start()
        return None

    def fill(self, shard: int) -> Receipt | Refusal:
        """Fill a shard; returns when it is on disk."""
        receipt: Future[Receipt] = Future()
        self._receipts[shard] = receipt
        if self._failed is not None:
            return _refused(self._failed)
        self._shards.put(shard)
        try:
            return receipt.result()
        except Exception as error:  # noqa: BLE001  # whatever it is ends this worker, and the driver is told
            return _refused(error)

    def clips(self) -> int:
        """Encoded so far (count)."""
        return self._meter.speed().clips

    def end(self) -> None:
        """Leave unfinished shards; those that are whole are still written."""
        self._is_ended = True
        self._shards.put(None)
        if self._thread is not None:
            self._thread.join()
        self._opened.close()

    # What the pipeline tells

    def begun(self, shard: int) -> None:
        """Nothing is to be done."""

    def heard(self, rows: Sequence[int], clips: Sequence[Decoded | AudioError]) -> None:  # noqa: ARG002 as of `Listener`
        """Stop where the driver wants it; what the clips are like is for its ledger."""
        if self._is_ended:
            raise _EndedError

    def advanced(self, shard: int, clips: int, *, whole: bool) -> None:
        """Nothing is to be done."""

    def _written(self, marker: ShardMarker) -> None:
        self._meter.wrote(marker.stored_bytes)
        with suppress(InvalidStateError):  # the worker has failed meanwhile; the shard is there all the same
            self._receipts.pop(marker.shard).set_result(Receipt(marker, self._meter.speed()))

    def _work(self, filling: Filling) -> None:
        """Rounds: one ends, and what was decoded ahead goes through to the disk, when no shard waits."""
        try:
            while (first := self._shards.get()) is not None:
                filling.fill(self._waiting(first))
        except BaseException as error:  # noqa: BLE001  # goes to whoever waits for a shard
            self._failed = error
            for receipt in list(self._receipts.values()):
                with suppress(InvalidStateError):  # the other thread has just given it
                    receipt.set_exception(error if isinstance(error, Exception) else RuntimeError(repr(error)))

    def _waiting(self, first: int) -> Iterator[int]:
        yield first
        while True:
            try:
                shard = self._shards.get_nowait()
            except queue.Empty:
                return
            if shard is None:
                self._shards.put(None)
                return
            yield shard


class _EndedError(Exception):
    """The driver wants no more of this worker."""


class LostError(Exception):
    """A worker failed in a way that another one may not: memory, the GPU."""


def _refused(error: BaseException) -> Refusal:
    """What an extraction itself refuses stops it everywhere; anything else costs the worker.

    Raises:
        LostError: for anything else.
    """
    if isinstance(error, EmonetError):
        return Refusal(packed(error))
    text = " ".join(str(error).split())
    raise LostError(f"{type(error).__name__}{text and f': {text}'}") from None


def _require_same(job: Job) -> None:
    """See that this node is as the driver's is.

    Raises:
        RequestError: if versions differ, or it does not see the driver's files.
    """
    require_versions(job.versions)
    file, content = job.probe
    _require_seen(file, content)
    if not job.folder.is_dir():
        raise _unseen(job.folder, "the folder that the driver works in")
    os.chdir(job.folder)  # corpora may name audio relative to it
    if job.audio is not None and size_of(job.audio) is None:
        raise _unseen(job.audio, "the corpus' audio")


def _require_seen(file: Place, content: str) -> None:
    until = time.monotonic() + SEEN
    while True:
        with suppress(OSError):  # not there yet
            if file.read_bytes() == content.encode():
                return
        if time.monotonic() > until:
            raise _unseen(file.parent, "the store's folder, as the driver sees it")
        time.sleep(0.2)


def _unseen(path: Place | str, what: str) -> RequestError:
    return RequestError(
        f"this node does not see {what}",
        where=path,
        hint="a file system that all nodes share, mounted at the same place; --runs FOLDER on it",
    )
