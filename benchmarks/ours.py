"""The feature store as one of the formats: each tier through its own writer and reader, and the shuffled loader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, final

import numpy as np

from benchmarks.formats import SHARD, Decoded, Format, Reader, Rows, States
from benchmarks.states import StateSet
from cache.store import (
    MARKERS,
    TABLE,
    TEXTS,
    THREADS,
    ExtractionRecord,
    FeatureStore,
    create,
    fingerprint,
    marker_file,
    table_bytes,
)
from cache.writing import StoreWriter
from emonet.clips import Corpus
from emonet.configs import CodecTier
from emonet.runtime import durable
from emonet.windows import Window

STORE = "states.zarr"
Kept = Literal["all", "speech"]


def record_of(subject: StateSet, corpus: Corpus, codec: CodecTier, kept: Kept) -> ExtractionRecord:
    """What a store of these states is made from; the encoder is described by the name of the set."""
    frames, width = subject.load_silence().shape
    return ExtractionRecord(
        corpus=corpus.name,
        corpus_fingerprint=corpus.fingerprint,
        clips=len(corpus),
        encoder=subject.name,
        encoder_digest="0" * 64,
        window_seconds=Window.of_frames(frames).seconds,
        frames=frames,
        width=width,
        mels=80,
        precision="float32",
        batch_size=1,
        shard_clips=SHARD,
        codec=codec,
        kept=kept,
    )


def write_store(folder: Path, states: States, *, subject: StateSet, codec: CodecTier, kept: Kept) -> None:
    corpus = Corpus(subject.corpus.name, subject.corpus.clips[: len(states)], (), subject.corpus.targets)
    record, seconds = record_of(subject, corpus, codec, kept), subject.seconds()
    with StoreWriter(folder / STORE, record, corpus, threads=THREADS, silence=subject.load_silence) as writer:
        for shard in writer.claims():
            sink = writer.begin(shard)
            for position, row in enumerate(sink.rows):
                sink.put(position, states[row], seconds[row])
            sink.commit()
        writer.finish()


@final
class StoreReader(Reader):
    """A finished store."""

    def __init__(self, folder: Path) -> None:
        self._store = FeatureStore.open(folder / STORE)

    def __len__(self) -> int:
        return len(self._store)

    def read(self, rows: Rows) -> Decoded:
        return self._store.read(rows)

    def close(self) -> None: ...


def load(folder: Path, seed: int, batch: int) -> Iterator[Decoded]:
    """One epoch of the shuffled loader, through three pools of memory."""
    from cache.loading import ShuffledClips  # it needs torch, which reading does not

    store = FeatureStore.open(folder / STORE)
    clips = ShuffledClips(store, batch_size=batch, seed=seed, pool_clips=max(batch, -(-len(store) // 3)))
    for _, states in clips:
        yield states


def tiers(subject: StateSet) -> Sequence[Format]:
    """The feature store, once for each tier."""
    chosen: tuple[tuple[str, CodecTier, Kept], ...] = (
        ("emonet none", "none", "all"),
        ("emonet lossless", "lossless", "all"),
        ("emonet bfloat", "bfloat", "all"),
        ("emonet int8", "int8", "all"),
        ("emonet lossless, speech", "lossless", "speech"),
    )
    return [
        Format(
            name,
            partial(write_store, subject=subject, codec=codec, kept=kept),
            StoreReader,
            exact=codec in {"none", "lossless"} and kept == "all",
            threads=f"{THREADS} threads",
            loader=load,
        )
        for name, codec, kept in chosen
    ]


def metadata_store(folder: Path, subject: StateSet, clips: int) -> Path:
    """A store of one real shard and the attributes and table of `clips` clips, made by the store's own functions.

    Its clips are those of the set, over and over, under ids of their own.
    """
    corpus = subject.corpus
    record = record_of(subject, corpus, "lossless", "all")
    record = ExtractionRecord.model_validate({**record.model_dump(), "clips": clips})
    first = Corpus(corpus.name, corpus.clips[:SHARD], (), corpus.targets)
    path, real = folder / f"{clips}.zarr", folder / str(clips) / STORE
    states = np.load(subject.file, mmap_mode="r")[: len(first)]
    write_store(real.parent, states, subject=subject, codec="lossless", kept="all")
    create(path, record, corpus.targets, "", None)
    (path / MARKERS).mkdir()
    (real / "states" / "c").rename(path / "states" / "c")
    marker_file(real, 0).rename(marker_file(path, 0))
    rows = np.arange(clips) % len(first)
    columns: dict[str, Any] = {
        "id": [f"{corpus.clips[row].id}-{number}" for number, row in enumerate(rows.tolist())],
        **{
            name: np.array([getattr(clip, name) for clip in first.clips], object)[rows]
            for name in ("split", "speaker", "language")
        },
        "seconds": np.array(subject.seconds())[rows],
        "speech_frames": np.full(clips, record.frames),
        **dict.fromkeys(TEXTS, [None] * clips),
        **dict(zip(corpus.targets.ids, first.scores()[rows].T, strict=True)),
    }
    durable.write(path / TABLE, table_bytes(columns, corpus.targets, fingerprint(record, [])))
    return path
