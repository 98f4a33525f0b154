"""Info on a store, out of its attributes, markers and table: no chunk is read, and it need not be finished."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, NonNegativeInt

from cache.principal import listed
from cache.store import (
    TABLE,
    ExtractionRecord,
    Place,
    StorePlace,
    errors_of,
    read_attributes,
    read_summary,
    read_table,
    readable_markers,
)
from emonet.clips import SPLITS
from emonet.schema import Schema


class StoreInfo(Schema):
    """What `emonet store info` tells."""

    store: StorePlace
    """The folder."""
    finished: bool
    """Whether every shard and the table are there; else what follows is about the shards that are."""
    record: ExtractionRecord
    """What the store is made from: corpus, encoder, shape, codec."""
    note: str
    """A sentence about the corpus (licence, limits)."""
    targets: tuple[str, ...]
    """Ids of the targets, in the order of the score columns."""
    shards: NonNegativeInt
    """Shards that are there, of the record's (count)."""
    clips: NonNegativeInt
    """Clips in these shards, with and without states (count)."""
    failed: NonNegativeInt
    """Clips without states among them (count)."""
    hours: float = Field(ge=0)
    """Audio heard (hours)."""
    bytes_raw: NonNegativeInt
    """Size of the states as they read (bytes)."""
    bytes_stored: NonNegativeInt
    """Size of the shards (bytes)."""
    share: float | None
    """Stored size over that of the states as they read; None if there are none."""
    largest_error: float = Field(ge=0)
    """Largest difference between a state as computed and as it reads; 0 where nothing is lost."""
    rms_error: float = Field(ge=0)
    """Root mean square of these differences as a share of that of the states; 0 where nothing is lost."""
    splits: dict[str, int]
    """Clips of each split (count); empty while the store is not finished, like the next three."""
    speakers: int | None
    """Speakers (count)."""
    rated: dict[str, int]
    """Target -> clips with a score for it, of those that have one (count)."""
    fingerprint: str | None
    """SHA-256 over what the store was made from and what it holds."""
    principal: tuple[str, ...]
    """Principal coordinates that are kept in the store, a line for each."""


def describe(path: Place) -> StoreInfo:
    """Tell what a store is made of.

    Args:
        path: the folder NAME.zarr.

    Raises:
        RequestError: if there is no store, or one of another format version.
        EmonetError: if its table is damaged.
    """
    record, targets, note = read_attributes(path)
    hours, markers = 0.0, []
    for marker in readable_markers(path, record):
        hours += sum(seconds or 0.0 for seconds in marker.seconds) / 3600
        markers.append(marker.summary())
    finished = len(markers) == record.shards and (path / TABLE).is_file()
    clips = sum(len(record.rows(marker.shard)) for marker in markers)
    failed = sum(len(marker.failures) for marker in markers)
    raw, stored = (clips - failed) * record.clip_bytes, sum(marker.stored_bytes for marker in markers)
    largest, rms = errors_of(markers)
    fingerprint = read_summary(path)[1] if finished else None
    splits, speakers, rated = _table(path, targets.ids) if finished else ({}, None, {})
    return StoreInfo(
        store=path,
        finished=finished,
        record=record,
        note=note,
        targets=targets.ids,
        shards=len(markers),
        clips=clips,
        failed=failed,
        hours=hours,
        bytes_raw=raw,
        bytes_stored=stored,
        share=stored / raw if raw else None,
        largest_error=largest,
        rms_error=rms,
        splits=splits,
        speakers=speakers,
        rated=rated,
        fingerprint=fingerprint,
        principal=tuple(listed(path, fingerprint)) if fingerprint is not None and isinstance(path, Path) else (),
    )


def _table(path: Place, targets: tuple[str, ...]) -> tuple[dict[str, int], int, dict[str, int]]:
    counts = read_table(path, ["split"])["split"].value_counts()
    speakers = int(read_table(path, ["speaker"])["speaker"].nunique())
    rated = {target: int(read_table(path, [target])[target].notna().sum()) for target in targets}  # one at a time
    return (
        {split: int(counts[split]) for split in SPLITS if split in counts},
        speakers,
        {target: clips for target, clips in rated.items() if clips},
    )
