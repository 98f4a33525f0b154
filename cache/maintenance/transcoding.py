"""Transcode a finished store into another codec tier, without the encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float16

from cache.store import ExtractionRecord, FeatureStore, read_marker
from cache.writing import SilenceMeter, StoreWriter, sample
from emonet.audio import Notice
from emonet.clips import Corpus
from emonet.configs import CodecTier
from emonet.runtime import Progress, silent


def transcode(
    store: FeatureStore,
    corpus: Corpus,
    path: Path,
    codec: CodecTier,
    *,
    kept: Literal["all", "speech"] = "all",
    progress: Progress = silent,
) -> str:
    """Write the states of `store` to another one.

    Args:
        store: lossless, with all states kept; otherwise losses would add up unseen.
        corpus: what it was extracted from; checked.
        path: the new folder NAME.zarr; goes on where a former run stopped.
        codec: tier of the new store.
        kept: which states the new store keeps.
        progress: called with clips done.

    Returns:
        The new store's fingerprint.

    Raises:
        RequestError: if `corpus` is another one, or there is a store at `path` made from something else.
        EmonetError: if `store` is damaged, or the disk is full.
    """
    given = {"corpus_fingerprint": corpus.fingerprint, "clips": len(corpus)}
    store.record.require(given, where=store.path, hint="the corpus that this store was extracted from")
    fields = store.record.model_dump() | {"codec": codec, "kept": kept}
    record = ExtractionRecord.model_validate(fields)
    silence = None if kept == "all" else (lambda: mean_silence(store))
    with StoreWriter(path, record, corpus, silence=silence) as writer:
        markers = [read_marker(store.path, store.record, shard) for shard in range(record.shards)]
        done = writer.finished_clips()
        progress(done, len(store))
        for shard in writer.claims():
            sink = writer.begin(shard)
            failed = store.clips["failed"].iloc[sink.rows.start : sink.rows.stop]
            for position, (row, reason) in enumerate(zip(sink.rows, failed, strict=True)):
                if reason is not None:
                    sink.fail(position, reason)
                else:
                    marker = markers[sink.shard]
                    sink.put(
                        position,
                        store.read([row])[0],
                        float(store.clips["seconds"].iloc[row]),
                        content=marker.contents[position] if marker.contents else None,
                        notices=[Notice(*notice) for notice in marker.notices.get(row, ())],
                    )
            sink.commit()
            done += len(sink.rows)
            progress(done, len(store))
        return writer.finish()


def mean_silence(store: FeatureStore) -> Float16[np.ndarray, "frames width"]:
    """The mean of the states that hear nothing, over clips spread through the store: float16 (frames, width)."""
    meter = SilenceMeter(store.record.frames, store.record.width)
    for row in sample(store.rows().tolist()):
        meter.update(store.read([row])[0], int(store.speech_frames([row])[0]))
    return meter.mean()
