"""Extraction, from a corpus to a store: decode, encode and write shard by shard; a killed run resumes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch

from cache.extraction.ledger import Ledger, failed, rejections, sounds_of
from cache.extraction.pipeline import Filling, Listener, silence_of
from cache.extraction.report import ExtractionReport, speed_fields
from cache.extraction.sharing import Sharing
from cache.extraction.throughput import Meter, Speed
from cache.store import ExtractionRecord, Place, ShardMarker, errors_of, read_markers
from cache.writing import Notices, Part, StoreWriter
from emonet.audio import Decoders, processors
from emonet.clips import Corpus
from emonet.configs import ExtractionConfig
from emonet.encoders import ReadyEncoder, inner_layers
from emonet.errors import RequestError
from emonet.runtime import Progress, ignore

LEAST_DECODERS, MOST_DECODERS = 2, 8  # processes
MOST_COMPRESSORS = 16  # threads; beyond it they wait for memory, not for processors


def extract(
    corpus: Corpus,
    encoder: ReadyEncoder,
    path: Place,
    config: ExtractionConfig,
    *,
    source: str,
    force: bool = False,
    progress: Progress = ignore,
    notices: Notices | None = None,
) -> ExtractionReport:
    """Fill the store at `path` with the encoder's states of every clip; shards that are there are kept.

    Several processes may do so at once, with the same corpus, encoder and configuration: they share the shards.
    Whatever stops it, shards whose states are complete are still written.

    Args:
        corpus: its clips become the rows, in their order.
        encoder: makes the states.
        path: the folder NAME.zarr.
        config: how; what the encoder was made with (`encoder_settings`) and on was heeded then.
        source: where the encoder came from, for the record.
        force: start anew where a store already exists.
        progress: called with clips done, those of other processes included.
        notices: called before it begins.

    Raises:
        RequestError: if the corpus is empty, the store there was made from something else, pooled states are to be
            stored in int8 or in part, one part of several is to start anew, or the same sound is in two splits.
        EmonetError: if too many clips cannot be read, decoding processes cannot be started, the disk is full, states do
            not fit into float16, or the store is removed meanwhile.
    """
    check_request(corpus, config)
    started = time.monotonic()
    record = record_of(corpus, encoder, config, source=source)
    workers = decoding_workers(config, encoder.device)
    decoders = Decoders(workers, timeout=config.decode_timeout)
    writer = StoreWriter(
        path,
        record,
        corpus,
        force=force,
        part=Part(config.num_shards, config.shard_index),
        threads=compressors(workers, processors()),
        silence=lambda: silence_of(record, corpus, encoder, decoders),
        any_batch_size=config.batch_size == "auto",
        notices=notices,
    )
    meter = Meter(encoder.flops_per_clip, lambda: encoder.computed_seconds)

    def filling(listener: Listener) -> Filling:
        return Filling(writer, corpus, encoder, decoders, meter, listener)

    with decoders, writer:
        Sharing(writer, filling, Ledger(corpus, config), meter, progress).run()
        return report_of(writer, corpus, workers, meter.speed(), started)


def encoder_settings(config: ExtractionConfig) -> dict[str, Any]:
    """What of a configuration `open_encoder` takes.

    Raises:
        RequestError: if the window is still `auto`, which the clips' lengths decide.
    """
    if config.window_seconds == "auto":
        raise RequestError("the window is not known yet", expected="seconds", found="auto")
    return {name: getattr(config, name) for name in ("layers", "window_seconds", "precision", "compile")}


def record_of(
    corpus: Corpus,
    encoder: ReadyEncoder,
    config: ExtractionConfig,
    *,
    source: str,
) -> ExtractionRecord:
    """What a store of this corpus, encoder and configuration is made from.

    Args:
        corpus: its clips are the rows.
        encoder: makes the states.
        config: how.
        source: where the encoder came from.
    """
    batch_size = encoder.batch_size() if config.batch_size == "auto" else config.batch_size
    return ExtractionRecord(
        corpus=corpus.name,
        corpus_fingerprint=corpus.fingerprint,
        clips=len(corpus),
        encoder=source,
        encoder_digest=encoder.digest,
        window_seconds=encoder.window.seconds,
        frames=encoder.frames,
        width=encoder.width,
        layers=inner_layers(encoder),
        pool=config.pool,
        mels=encoder.mels,
        precision=encoder.precision,
        batch_size=min(batch_size, config.shard_clips),
        shard_clips=config.shard_clips,
        codec=config.codec,
        kept=config.frames,
    )


def check_request(corpus: Corpus, config: ExtractionConfig) -> None:
    """See that there is something to extract, and that what is asked for can be stored.

    Raises:
        RequestError: if not.
    """
    if not len(corpus):
        raise RequestError("the corpus has no clips", where=corpus.name, hint=f"emonet corpus {corpus.name}")
    if config.pool == "none":
        return
    if config.codec == "int8":
        raise RequestError(
            "a pooled store has no int8 codec: one scale cannot serve a mean and a deviation",
            expected="--extraction.codec lossless, none or bfloat",
            found="int8",
        )
    if config.frames == "speech":
        raise RequestError(
            "--extraction.frames speech is for stores of states; statistics are over those that hear the clip anyway",
            expected="--extraction.frames all, or --extraction.pool none",
            found=f"--extraction.pool {config.pool}",
        )


def report_of(writer: StoreWriter, corpus: Corpus, workers: int, speed: Speed, started: float) -> ExtractionReport:
    """Finish the store, if all of it is there, and tell what it holds.

    Args:
        writer: entered; nothing is on its way.
        corpus: its clips are the rows.
        workers: processes that decoded (count).
        speed: of this run.
        started: when it began, by the monotonic clock (seconds).

    Raises:
        EmonetError: if the store was removed, or no clip could be read.
    """
    writer.require_there()
    record, pending = writer.record, set(writer.pending())
    markers: list[ShardMarker] = []  # without what they say of each clip

    def each() -> Iterator[ShardMarker]:
        there = (shard for shard in range(record.shards) if shard not in pending)
        for marker in read_markers(writer.path, record, there):
            markers.append(marker.summary())
            yield marker

    sounds = sounds_of(corpus, record, each())
    failures = rejections(corpus, markers)
    if len(failures) == len(corpus):
        writer.discard()
        what = f"none of the {len(corpus)} clips could be read"
        raise failed(what, corpus, failures, hint=f"emonet corpus {corpus.name}")
    fingerprint = "" if pending else writer.finish()
    readable = sum(len(record.rows(marker.shard)) for marker in markers) - len(failures)
    largest, rms = errors_of(markers)
    return ExtractionReport(
        complete=not pending,
        clips=len(corpus),
        failed=len(failures),
        failures=tuple(failures),
        shape=record.shape,
        bytes_raw=readable * record.clip_bytes,
        bytes_stored=sum(marker.stored_bytes for marker in markers),
        codec=record.codec,
        pool=record.pool,
        kept=record.kept,
        largest_error=largest,
        rms_error=rms,
        batch_size=record.batch_size,
        precision=record.precision,
        workers=workers,
        fingerprint=fingerprint,
        sounds=sounds.report(),
        **speed_fields(speed, time.monotonic() - started),
    )


def decoding_workers(config: ExtractionConfig, device: torch.device, share: int | None = None) -> int:
    """Processes that decode (count): two, or beside a GPU a quarter of this process' share of the processors.

    The other ones compress, which takes three times as long as to decode.

    Args:
        config: may say it itself.
        device: of the encoder.
        share: processors of this process (count); by default one GPU's of the machine.
    """
    if config.workers != "auto":
        return config.workers
    if device.type != "cuda":
        return LEAST_DECODERS
    share = share or processors() // max(1, len(config.devices) or torch.cuda.device_count())
    return max(LEAST_DECODERS, min(MOST_DECODERS, share // 4))


def compressors(workers: int, there: int) -> int:
    """Threads for compression: of the processors that there are, those that decoding leaves over."""
    return max(2, min(MOST_COMPRESSORS, there - workers))
