"""From a corpus to a store: decode, pad, encode and write, shard by shard; a killed run goes on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float16, Float32
from pydantic import Field

from cache.record import ExtractionRecord
from cache.writer import StoreWriter
from emonet.audio import decode
from emonet.clips import Clip, Corpus, Rejection
from emonet.configs import ExtractionConfig
from emonet.encoder import FrozenEncoder
from emonet.errors import AudioError, EmonetError, RequestError
from emonet.logmel import pad
from emonet.progress import Progress, silent
from emonet.schema import Schema
from emonet.windows import SAMPLE_RATE

DECODERS = 2  # threads; libsndfile and soxr let go of the interpreter's lock


class ExtractionReport(Schema):
    """What an extraction made."""

    clips: int
    """Clips of the corpus, readable or not (count)."""
    failed: int
    """Clips that could not be read (count)."""
    failures: tuple[Rejection, ...]
    """Which, and why."""
    shape: tuple[int, int, int]
    """Clips, frames of 20 ms, width."""
    bytes_raw: int
    """Size of the states before compression (bytes)."""
    bytes_stored: int
    """Size of the shards on disk (bytes)."""
    seconds: float = Field(ge=0)
    """How long this run took (seconds)."""
    clips_per_second: float = Field(ge=0)
    """Clips that this run extracted, per second; 0 if they were all there."""
    fingerprint: str
    """SHA-256 over what the store was made from and what it holds."""


def extract(
    corpus: Corpus,
    encoder: FrozenEncoder,
    path: Path,
    config: ExtractionConfig,
    *,
    source: str,
    force: bool = False,
    progress: Progress = silent,
) -> ExtractionReport:
    """Fill the store at `path` with the encoder's states of every clip; shards that are there are kept.

    Args:
        corpus: its clips become the rows, in their order.
        encoder: makes the states.
        path: the folder NAME.zarr.
        config: batch and shard size.
        source: where the encoder came from, for the record.
        force: start anew where a store is there already.
        progress: called with clips done.

    Raises:
        RequestError: if the corpus is empty, or the store there was made from something else.
        EmonetError: if no clip can be read, another process writes the store, the disk is full, or states do
            not fit into float16.
    """
    if not len(corpus):
        raise RequestError("the corpus has no clips", where=corpus.name, hint=f"emonet corpus {corpus.name}")
    started = time.monotonic()
    record = record_of(corpus, encoder, config, source=source)
    with StoreWriter(path, record, corpus, force=force) as writer:
        pending = writer.pending()
        new = sum(len(record.rows(shard)) for shard in pending)
        _fill(writer, corpus, encoder, pending, progress)
        failures = writer.failures()
        if len(failures) == len(corpus):
            writer.discard()
            raise _all_failed(corpus, failures)
        fingerprint = writer.finish()
        stored = sum(marker.stored_bytes for marker in writer.markers())
    seconds = time.monotonic() - started
    return ExtractionReport(
        clips=len(corpus),
        failed=len(failures),
        failures=tuple(failures),
        shape=record.shape,
        bytes_raw=(len(corpus) - len(failures)) * record.clip_bytes,
        bytes_stored=stored,
        seconds=round(seconds, 3),
        clips_per_second=round(new / seconds, 3),
        fingerprint=fingerprint,
    )


def record_of(corpus: Corpus, encoder: FrozenEncoder, config: ExtractionConfig, *, source: str) -> ExtractionRecord:
    """What a store of this corpus, encoder and configuration is made from."""
    return ExtractionRecord(
        corpus=corpus.name,
        corpus_fingerprint=corpus.fingerprint,
        clips=len(corpus),
        encoder=source,
        encoder_digest=encoder.digest,
        window_seconds=encoder.window.seconds,
        frames=encoder.window.frames,
        width=encoder.width,
        mels=encoder.mels,
        precision=encoder.precision,
        batch_size=config.batch_size,
        shard_clips=config.shard_clips,
    )


@dataclass
class _Shard:
    """States of one shard while they come in."""

    rows: range
    states: Float16[np.ndarray, "clips frames width"]
    seconds: list[float | None] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)


_Heard = Float32[np.ndarray, " samples"] | AudioError


def _fill(writer: StoreWriter, corpus: Corpus, encoder: FrozenEncoder, pending: list[int], progress: Progress) -> None:
    record = writer.record
    done, total = len(corpus) - sum(len(record.rows(shard)) for shard in pending), len(corpus)
    progress(done, total)
    clips = (corpus.clips[row] for shard in pending for row in record.rows(shard))
    with ThreadPoolExecutor(DECODERS, thread_name_prefix="decode") as pool:
        heard = _decoded(clips, pool, encoder.window.seconds, ahead=2 * record.batch_size)
        for index in pending:
            rows = record.rows(index)
            shard = _Shard(rows, np.full((len(rows), record.frames, record.width), np.nan, np.float16))
            # Batches never cross a shard: a resumed run computes the same ones as an undisturbed run.
            for first in range(0, len(rows), record.batch_size):
                _encode(shard, rows[first : first + record.batch_size], heard, encoder)
                progress(done + len(shard.seconds), total)
            writer.write(index, shard.states, shard.seconds, shard.failures)
            done += len(rows)
    progress(total, total)


def _encode(shard: _Shard, rows: range, heard: Iterator[_Heard], encoder: FrozenEncoder) -> None:
    """Take the next `len(rows)` decoded clips, and put the states of the readable ones into the shard."""
    readable, waveforms = [], []
    for row, audio in zip(rows, heard, strict=False):  # rows first: zip takes nothing beyond the last
        if isinstance(audio, AudioError):
            shard.failures[row] = audio.what
            shard.seconds.append(None)
        else:
            readable.append(row - shard.rows.start)
            waveforms.append(audio)
            shard.seconds.append(len(audio) / SAMPLE_RATE)
    if waveforms:
        shard.states[readable] = encoder(pad(waveforms, encoder.window)).numpy()


def _decoded(clips: Iterable[Clip], pool: ThreadPoolExecutor, seconds: float, *, ahead: int) -> Iterator[_Heard]:
    """Decode clips in their order, at most `ahead` of them before they are asked for."""
    waiting: deque[Future[_Heard]] = deque()
    for clip in clips:
        waiting.append(pool.submit(_hear, clip, seconds))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _hear(clip: Clip, seconds: float) -> _Heard:
    try:
        return decode(clip.audio, start=clip.start, end=clip.end, seconds=seconds)
    except AudioError as error:
        return error


def _all_failed(corpus: Corpus, failures: list[Rejection]) -> EmonetError:
    shown = [f"    - {failure.id}: {failure.reason}" for failure in failures[:5]]
    return EmonetError(
        "\n".join([f"none of the {len(failures)} clips could be read", *shown]),
        where=corpus.name,
        hint=f"emonet corpus {corpus.name}",
    )
