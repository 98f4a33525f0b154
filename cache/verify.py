"""Is a store whole? A cheap look at record, markers, files and table; a deep one that reads every chunk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cache.record import ShardMarker, fingerprint
from cache.store import FeatureStore, open_array, shard_file
from cache.writer import read_marker, states_digest
from emonet import durable
from emonet.clips import Rejection
from emonet.errors import EmonetError
from emonet.progress import Progress, silent
from emonet.schema import Schema


class StoreReport(Schema):
    """What `emonet verify` found."""

    store: Path
    """The folder."""
    deep: bool
    """Whether every chunk was read back."""
    clips: int
    """Clips in the store, with and without states (count)."""
    shape: tuple[int, int, int]
    """Clips, frames of 20 ms, width."""
    failed: int
    """Clips without states (count)."""
    failures: tuple[Rejection, ...]
    """Which, and why."""
    bytes_raw: int
    """Size of the states before compression (bytes)."""
    bytes_stored: int
    """Size of the shards (bytes)."""
    corpus: str
    """The spec of the corpus."""
    encoder: str
    """Where the encoder came from."""
    fingerprint: str
    """SHA-256 over the record and the content of every shard."""
    problems: tuple[str, ...]
    """What is wrong, with clip ids and what to type; empty if the store is whole."""

    @property
    def exit_code(self) -> int:
        """0 if the store is whole, else 1."""
        return 1 if self.problems else 0


def verify(path: Path | str, *, deep: bool = False, progress: Progress = silent) -> StoreReport:
    """Check a finished store.

    Args:
        path: the folder NAME.zarr.
        deep: read every chunk back: readable, finite, not all zero, and the digest that its marker has.
        progress: called with clips checked.

    Raises:
        RequestError: if there is no store, or its extraction did not finish.
        EmonetError: if the table of clips is damaged.
    """
    store = FeatureStore.open(path)
    array = open_array(store.path)
    problems = list(_wrong_array(store, array))
    markers, done = [], 0
    progress(0, len(store))
    for shard in range(store.record.shards):
        try:
            marker = read_marker(store.path, shard)
        except EmonetError as error:
            problems.append(" ".join(str(error).split()))
            continue
        markers.append(marker)
        problems += _wrong_shard(store, marker)
        if deep and marker.stored_bytes:
            problems += _wrong_states(store, array, marker)
        done += len(store.record.rows(shard))
        progress(done, len(store))
    if len(markers) == store.record.shards and fingerprint(store.record, markers) != store.fingerprint:
        problems.append(f"the table's fingerprint is not that of the shards; try: {_ANEW}")
    problems += [f"{file}: left by a killed writer; try: rm {file}" for file in _leftovers(store.path)]
    failures = tuple(
        Rejection(clip, reason)
        for clip, reason in zip(store.clips["id"], store.clips["failed"], strict=True)
        if reason is not None
    )
    return StoreReport(
        store=store.path,
        deep=deep,
        clips=len(store),
        shape=store.record.shape,
        failed=len(failures),
        failures=failures,
        bytes_raw=len(store.rows()) * store.record.clip_bytes,
        bytes_stored=sum(marker.stored_bytes for marker in markers),
        corpus=store.record.corpus,
        encoder=store.record.encoder,
        fingerprint=store.fingerprint,
        problems=tuple(problems),
    )


_ANEW = "emonet extract --force, which makes the store anew"


def _repair(store: FeatureStore, shard: int) -> str:
    return f"try: rm -f {store.path}/shards/{shard:05d}.json, and emonet extract again: it makes this shard anew"


def _wrong_array(store: FeatureStore, array: object) -> Iterator[str]:
    shape, kind = tuple(getattr(array, "shape", ())), str(getattr(array, "dtype", ""))
    if shape != store.record.shape or kind != "float16":
        yield f"the array is {kind} {shape}, the record says float16 {store.record.shape}; try: {_ANEW}"


def _wrong_shard(store: FeatureStore, marker: ShardMarker) -> Iterator[str]:
    """Do the shard's file and its part of the table agree with its marker?"""
    rows = store.record.rows(marker.shard)
    file = shard_file(store.path, marker.shard)
    size = file.stat().st_size if file.is_file() else 0
    if size != marker.stored_bytes:
        found = f"{size:,} bytes" if file.is_file() else "missing"
        yield (
            f"shard {marker.shard} ({_named(store, rows)}) is {found}, "
            f"its marker says {marker.stored_bytes:,} bytes; {_repair(store, marker.shard)}"
        )
    table = store.clips.iloc[rows.start : rows.stop]
    listed = {row: reason for row, reason in zip(rows, table["failed"], strict=True) if reason is not None}
    if listed != marker.failures or len(marker.seconds) != len(rows):
        yield f"shard {marker.shard}: the table and the marker list different failed clips; try: {_ANEW}"


def _wrong_states(store: FeatureStore, array: object, marker: ShardMarker) -> Iterator[str]:
    """Is every chunk of the shard readable, finite, not all zero, and as it was when it was written?"""
    rows = [row for row in store.record.rows(marker.shard) if row not in marker.failures]
    before = len(rows)
    read = []
    for row in rows:
        reason, states = _read(array, row)
        if reason:
            yield f"clip {store.clips['id'].iloc[row]!r}: {reason}; {_repair(store, marker.shard)}"
        else:
            read.append(states)
    if len(read) == before and states_digest(np.stack(read)) != marker.digest:
        yield f"shard {marker.shard} holds other states than were written; {_repair(store, marker.shard)}"


def _read(array: object, row: int) -> tuple[str, np.ndarray]:
    nothing = np.empty(0, np.float16)
    try:
        states = np.asarray(array[row])  # type: ignore[index]
    except (OSError, ValueError, RuntimeError) as error:
        return f"its chunk is damaged ({' '.join(str(error).split())})", nothing
    if np.isnan(states).all():
        return "its chunk is missing", nothing
    if not np.isfinite(states).all():
        return "its states are not finite", nothing
    return ("its states are all zero" if not states.any() else ""), states


def _named(store: FeatureStore, rows: range) -> str:
    ids = store.clips["id"]
    return f"clips {ids.iloc[rows[0]]!r} to {ids.iloc[rows[-1]]!r}"


def _leftovers(path: Path) -> list[Path]:
    return sorted(path.rglob(f"*{durable.PARTIAL}"))
