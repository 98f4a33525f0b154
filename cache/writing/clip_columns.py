"""Columns of the table of clips, out of the markers of all shards and the corpus, some clips at a time."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from cache.store import COLUMNS, LABEL, ExtractionRecord, Place, ShardMarker, read_markers
from emonet.clips import Corpus, values_of

CHUNK = 1 << 12  # clips whose rows of the table are made at once


def clip_columns(
    path: Place, record: ExtractionRecord, corpus: Corpus
) -> tuple[dict[str, pa.ChunkedArray], list[ShardMarker]]:
    """The columns of a store whose shards are all there.

    Args:
        path: the folder NAME.zarr, or its URL.
        record: what the store is made from.
        corpus: its clips, in the order of the rows.

    Returns:
        The columns, and what the markers say, but for what is of each clip.
    """
    step = max(1, CHUNK // record.shard_clips)
    parts: dict[str, list[object]] = {}
    summaries: list[ShardMarker] = []
    for first in range(0, record.shards, step):
        markers = list(read_markers(path, record, range(first, min(first + step, record.shards))))
        for name, values in _rows(record, corpus, markers).items():
            parts.setdefault(name, []).append(pa.array(values, COLUMNS.get(name, pa.float32())))
        summaries += [marker.summary() for marker in markers]
    return {name: pa.chunked_array(values) for name, values in parts.items()}, summaries


def _rows(record: ExtractionRecord, corpus: Corpus, markers: Sequence[ShardMarker]) -> dict[str, object]:
    """Columns of the clips in neighbouring shards."""
    rows = range(record.rows(markers[0].shard).start, record.rows(markers[-1].shard).stop)
    seconds = [second for marker in markers for second in marker.seconds]
    reasons = {row: why for marker in markers for row, why in marker.failures.items()}
    notices = {row: found for marker in markers for row, found in marker.notices.items()}
    clips, heard = corpus.clips[rows.start : rows.stop], record.speech_frames
    return {
        **{name: values_of(clips, name) for name in ("id", "split", "speaker", "language")},
        "seconds": seconds,
        "speech_frames": [0 if second is None else heard(second) for second in seconds],
        "failed": [reasons.get(row) for row in rows],
        "sound_digest": [one for marker in markers for one in marker.contents or [None] * len(marker.seconds)],
        "sound_notices": ["; ".join(text for _, text in notices.get(row, ())) or None for row in rows],
        **({LABEL: values_of(clips, "label")} if corpus.labels else {}),
        **dict(zip(corpus.targets.ids, corpus.scores(clips).T, strict=True)),
    }
