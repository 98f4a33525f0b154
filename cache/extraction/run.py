"""Extraction, from a corpus to a store: decode, encode and write shard by shard; a killed run resumes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from cache.extraction.pipeline import Filling, failed, rejections, silence_of, sounds_of
from cache.extraction.report import ExtractionReport, speed_fields
from cache.extraction.throughput import Meter
from cache.store import ExtractionRecord, errors_of, read_marker
from cache.writing import Notices, Part, StoreWriter
from emonet.audio import Decoders, processors
from emonet.clips import Corpus
from emonet.configs import ExtractionConfig
from emonet.encoders import ReadyEncoder, inner_layers
from emonet.errors import RequestError
from emonet.runtime import Progress, ignore

MOST_COMPRESSORS = 16  # threads; beyond it they wait for memory, not for processors


def extract(
    corpus: Corpus,
    encoder: ReadyEncoder,
    path: Path,
    config: ExtractionConfig,
    *,
    source: str,
    force: bool = False,
    progress: Progress = ignore,
    meter: Meter | None = None,
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
        meter: counts what this run does; by default one of its own.
        notices: called before it begins.

    Raises:
        RequestError: if the corpus is empty, the store there was made from something else, pooled states are to be
            stored in int8 or in part, one part of several is to start anew, or the same sound is in two splits.
        EmonetError: if too many clips cannot be read, decoding processes cannot be started, the disk is full, states do
            not fit into float16, or the store is removed meanwhile.
    """
    if not len(corpus):
        raise RequestError("the corpus has no clips", where=corpus.name, hint=f"emonet corpus {corpus.name}")
    _check_pool(config)
    started = time.monotonic()
    record = record_of(corpus, encoder, config, source=source)
    decoders = Decoders(config.workers, timeout=config.decode_timeout)
    writer = StoreWriter(
        path,
        record,
        corpus,
        force=force,
        part=Part(config.num_shards, config.shard_index),
        threads=_compressors(config.workers),
        silence=lambda: silence_of(record, corpus, encoder, decoders),
        any_batch_size=config.batch_size == "auto",
        notices=notices,
    )
    meter, copies = meter or Meter(encoder.flops_per_clip), config.copies == "note"
    with decoders, writer:
        Filling(writer, corpus, encoder, decoders, config.max_failed, copies, meter, progress).run()
        return _report(writer, corpus, config, meter, started)


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


def _check_pool(config: ExtractionConfig) -> None:
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


def _report(
    writer: StoreWriter, corpus: Corpus, config: ExtractionConfig, meter: Meter, started: float
) -> ExtractionReport:
    writer.require_there()
    record, pending = writer.record, set(writer.pending())
    markers = [read_marker(writer.path, record, shard) for shard in range(record.shards) if shard not in pending]
    failures = rejections(corpus, markers)
    sounds = sounds_of(corpus, record, markers)
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
        workers=config.workers,
        fingerprint=fingerprint,
        sounds=sounds.report(),
        **speed_fields(meter.speed(), time.monotonic() - started),
    )


def _compressors(workers: int) -> int:
    """Threads for compression: the processors that decoding leaves over."""
    return max(2, min(MOST_COMPRESSORS, processors() - workers))
