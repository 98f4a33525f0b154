"""Verify a store: a cheap look at record, markers, files and table; a deep one that reads every chunk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from cache.store import (
    SCALES,
    SILENCE,
    STATES,
    ExtractionRecord,
    FeatureStore,
    Place,
    ShardMarker,
    StorePlace,
    errors_of,
    file_size,
    fingerprint,
    look_at_shards,
    read_marker,
    read_silence,
    require_table,
    shard_file,
    wrong_metadata,
)
from cache.writing import clip_digest, joined_digest
from emonet.clips import Rejection
from emonet.configs import CodecTier, Pool
from emonet.errors import EmonetError
from emonet.runtime import Progress, durable, ignore
from emonet.schema import Schema

LEFTOVER = "left by a killed writer"  # how problems with files end that are not whole


class StoreReport(Schema):
    """What `emonet store verify` found."""

    store: StorePlace
    """The folder."""
    deep: bool
    """Whether every chunk was read back."""
    clips: int
    """Clips in the store, with and without states (count)."""
    shape: tuple[int, int, int]
    """Clips, what is kept of each (states, or the four statistics of a pooled store), width."""
    pool: Pool
    """What is kept of the states: all (none), or statistics over those that hear the clip."""
    failed: int
    """Clips without states (count)."""
    failures: tuple[Rejection, ...]
    """Which, and why."""
    bytes_raw: int
    """Size of the states before compression (bytes)."""
    bytes_stored: int
    """Size of the shards (bytes)."""
    codec: CodecTier
    """How states are stored."""
    kept: str
    """Which states are stored: all, or speech."""
    largest_error: float = Field(ge=0)
    """Largest difference between a state as computed and as it reads; 0 where nothing is lost."""
    rms_error: float = Field(ge=0)
    """Root mean square of these differences as a share of that of the states; 0 where nothing is lost."""
    corpus: str
    """The spec of the corpus."""
    encoder: str
    """Where the encoder came from."""
    fingerprint: str
    """SHA-256 over the record and the content of every shard."""
    problems: tuple[str, ...]
    """What is wrong, with clip ids; empty if the store is whole."""
    damaged: tuple[int, ...]
    """Shards that have to be extracted again, which `emonet store repair` does."""

    @property
    def exit_code(self) -> int:
        """0 if the store is whole, else 1."""
        return 1 if self.problems else 0


@dataclass(frozen=True, slots=True)
class _Problem:
    """What is wrong; `shard` is the one to be extracted again, None where that would not help."""

    what: str
    shard: int | None = None


def verify(path: Place, *, deep: bool = False, progress: Progress = ignore) -> StoreReport:
    """Check a finished store. Where the mean of silence is lost no clip can be read, so the deep look reads none.

    Args:
        path: the folder NAME.zarr.
        deep: read every chunk back: checksums, digests, finite values.
        progress: called with clips checked.

    Raises:
        RequestError: if there is no store, or its extraction did not finish.
        EmonetError: if the table of clips is damaged.
    """
    store = FeatureStore.open(path)
    require_table(path)
    arrays = wrong_arrays(store.path, store.record)
    readable = SILENCE not in arrays
    problems = [_Problem(what) for what in arrays.values()]
    markers, done = [], 0
    progress(0, len(store))
    for shard, (marker, wrong) in enumerate(_looked_at(store, store.failures())):
        if marker is None:
            problems += wrong
            continue
        markers.append(marker.summary())
        problems += wrong
        if deep and readable and not wrong:
            problems += _wrong_states(store, marker)
        done += len(store.record.rows(shard))
        progress(done, len(store))
    if len(markers) == store.record.shards and fingerprint(store.record, markers) != store.fingerprint:
        problems.append(_Problem("the table's fingerprint is not that of the shards"))
    if isinstance(path, Path):
        problems += [_Problem(f"{file}: {LEFTOVER}") for file in sorted(path.rglob(f"*{durable.PARTIAL}"))]
    return _report(store, markers, problems, deep=deep)


def _looked_at(store: FeatureStore, failures: Mapping[int, str]) -> Iterator[tuple[ShardMarker | None, list[_Problem]]]:
    """Each shard's marker, and what is wrong without reading a chunk; an object store is asked for many at once."""

    def look(shard: int) -> tuple[ShardMarker | None, list[_Problem]]:
        try:
            marker = read_marker(store.path, store.record, shard)
        except EmonetError as error:
            return None, [_Problem(f"{error.what} ({_named(store, store.record.rows(shard))})", shard)]
        return marker, list(_wrong_shard(store, marker, failures))

    yield from look_at_shards(store.path, range(store.record.shards), look)


def _report(store: FeatureStore, markers: list[ShardMarker], problems: list[_Problem], *, deep: bool) -> StoreReport:
    failures = tuple(Rejection(str(store.ids.iloc[row]), reason) for row, reason in store.failures().items())
    largest, rms = errors_of(markers)
    return StoreReport(
        store=store.path,
        deep=deep,
        clips=len(store),
        shape=store.record.shape,
        pool=store.record.pool,
        failed=len(failures),
        failures=failures,
        bytes_raw=(len(store) - len(failures)) * store.clip_bytes,
        bytes_stored=sum(marker.stored_bytes for marker in markers),
        codec=store.record.codec,
        kept=store.record.kept,
        largest_error=largest,
        rms_error=rms,
        corpus=store.record.corpus,
        encoder=store.record.encoder,
        fingerprint=store.fingerprint,
        problems=tuple(problem.what for problem in problems),
        damaged=tuple(sorted({problem.shard for problem in problems if problem.shard is not None})),
    )


def wrong_arrays(path: Place, record: ExtractionRecord) -> dict[str, str]:
    """What concerns every shard, the metadata of the arrays and the mean of silence: name of the array -> problem."""
    wrong = wrong_metadata(path, record)
    if record.kept == "speech" and SILENCE not in wrong:
        try:
            read_silence(path)
        except EmonetError as error:
            wrong[SILENCE] = f"{error.what}; every clip needs it"
    return wrong


def _wrong_shard(store: FeatureStore, marker: ShardMarker, failures: Mapping[int, str]) -> Iterator[_Problem]:
    """Do the shard's files and its part of the table agree with its marker?"""
    rows = store.record.rows(marker.shard)
    files = [shard_file(store.path, marker.shard, array) for array in (STATES, SCALES)]
    size = sum(file_size(file) for file in files)
    if size != marker.stored_bytes:
        found = f"{size:,} bytes" if size else "missing"
        what = f"shard {marker.shard} ({_named(store, rows)}) is {found}, its marker says {marker.stored_bytes:,} bytes"
        yield _Problem(what, marker.shard)
    if {row: failures[row] for row in rows if row in failures} != marker.failures:
        yield _Problem(f"shard {marker.shard}: the table and the marker list different failed clips", marker.shard)


def _wrong_states(store: FeatureStore, marker: ShardMarker) -> Iterator[_Problem]:
    """Is every chunk of the shard readable, finite, not all zero, and as it was when it was written?"""
    rows = [row for row in store.record.rows(marker.shard) if row not in marker.failures]
    try:
        states = store.read(rows)
    except EmonetError:
        for row in rows:  # one by one, to name each that is damaged
            try:
                store.read([row])
            except EmonetError as error:
                yield _Problem(error.what, marker.shard)
        return
    for row, clip in zip(rows, states, strict=True):
        if reason := _wrong_values(clip):
            yield _Problem(f"clip {str(store.ids.iloc[row])!r}: {reason}", marker.shard)
    if joined_digest([clip_digest(clip) for clip in states]) != marker.digest:
        yield _Problem(f"shard {marker.shard} holds other states than were written", marker.shard)


def _wrong_values(states: np.ndarray) -> str:
    if not np.isfinite(states).all():
        return "its states are not finite"
    return "" if states.any() else "its states are all zero"


def _named(store: FeatureStore, rows: range) -> str:
    ids = store.ids
    return f"clips {str(ids.iloc[rows[0]])!r} to {str(ids.iloc[rows[-1]])!r}"
