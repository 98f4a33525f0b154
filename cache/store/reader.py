"""The feature store, opened for reading: encoder states of every clip of a corpus, with a table beside them.

store = FeatureStore.open("runs/sandbox/store.zarr")
rows = store.rows("train")
states, scores = store.read(rows[:64]), store.scores(rows[:64])
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import wait
from contextlib import nullcontext
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, final

import numpy as np
import pandas as pd
from jaxtyping import Float16, Float32, Int, Int64

from cache.store.layout import SCALES, STATES, read_attributes, read_classes, read_silence, shard_file
from cache.store.local_shard import LocalShard
from cache.store.metadata import ExtractionRecord
from cache.store.places import Place, RemotePath, cache_folder, how_to_repair, place
from cache.store.remote_shard import RemoteShard
from cache.store.shard_index import ShardIndex, read_chunk, read_plain
from cache.store.table import LABEL, TABLE, read_scores, read_summary, read_table
from cache.store.threads import THREADS, reading_pool
from cache.store.tiers import TIERS, DamagedChunkError
from emonet.clips import SPLITS, Split
from emonet.errors import EmonetError, RequestError
from emonet.schema import digest
from emonet.targets import TargetSpec

_REMOTE_THREADS = 16  # that wait for an object store's answers
_AGAIN = "emonet extract with the same experiment: it goes on where it stopped"


@final
class FeatureStore:
    """A finished store; open one with `FeatureStore.open`.

    Safe to pickle, to fork and to use from several threads: files are opened for one read and closed again. A store of
    an object store cannot be read in a process that was forked.

    Args:
        path: the folder NAME.zarr, of this machine or of an object store.
        record: what the store was made from.
        targets: what the scores mean.
        note: a sentence about the corpus (licence, limits).
        fingerprint: SHA-256 over the record and the content of every shard.
    """

    def __init__(self, path: Place, record: ExtractionRecord, targets: TargetSpec, note: str, fingerprint: str) -> None:
        self.path = path
        self.record = record
        self.targets = targets
        self.note = note
        self.fingerprint = fingerprint
        self._nearby: Path | None = None
        self.division = ""  # which splits these are, where they are not the store's own
        self._tier = TIERS[record.codec]
        self._indices: dict[str, ShardIndex] = {}

    @classmethod
    def open(
        cls, path: Place | str, *, expect: ExtractionRecord | None = None, nearby: Path | None = None
    ) -> FeatureStore:
        """Open a finished store, in a time that does not depend on its number of clips.

        Args:
            path: the folder NAME.zarr, or its URL (s3://, gs://, az://).
            expect: what the store must have been made from; None takes it as it is.
            nearby: folder of this machine for what is computed from the store of an object store and kept; None takes
                one in the user's cache.

        Raises:
            RequestError: if there is no store, it is not finished, of another format version, or not made
                from what `expect` says (each field that differs is listed).
            EmonetError: if the table does not fit the array.
        """
        path = place(path)
        record, targets, note = read_attributes(path)
        if expect is not None:
            record.require(expect, where=path, hint="emonet extract --force, which makes the store anew")
        if not (path / TABLE).is_file():
            raise RequestError("the extraction into this store did not finish", where=path, hint=_AGAIN)
        rows, fingerprint = read_summary(path)
        if rows != record.clips:
            raise EmonetError(
                "the table of clips does not fit the array",
                where=path / TABLE,
                expected=f"{record.clips} clips",
                found=rows,
                hint=how_to_repair(path),
            )
        store = cls(path, record, targets, note, fingerprint)
        store._nearby = nearby
        return store

    def __len__(self) -> int:
        return self.record.clips

    def __repr__(self) -> str:
        record = self.record
        kept = ", only states that hear the clip" if record.kept == "speech" else ", pooled" if self.pooled else ""
        shape = f"{record.clips} clip{'' if record.clips == 1 else 's'} x {record.shape[1]} x {record.width}"
        return f"FeatureStore({str(self.path)!r}, {shape}, {record.codec}{kept})"

    @property
    def home(self) -> Path:
        """Folder of this machine for what is computed from the store and kept: the store's own, if it is of it, too."""
        if isinstance(self.path, Path):
            return self.path
        nearby = self._nearby or cache_folder() / "stores" / digest(str(self.path))[:16]
        return nearby / f"{self.path.name}.kept"

    @property
    def pooled(self) -> bool:
        """Whether a clip reads as statistics over its states: mean, minimum, maximum, deviation (4 by width)."""
        return self.record.pool != "none"

    @property
    def clip_bytes(self) -> int:
        """Size of one clip's states as they read, in bytes."""
        return self.record.clip_bytes

    @cached_property
    def clips(self) -> pd.DataFrame:
        """The table, read when first asked for: one row per clip, indexed as the array.

        Columns: id, split, speaker, language, seconds, speech_frames, failed (the reason, or None), label (the class,
        or None) where clips have some, and one of scores per target (NaN where nobody rated).
        """
        return read_table(self.path)

    @cached_property
    def ids(self) -> pd.Series[str]:
        """The id of each clip, as in the table, of which nothing else is read."""
        return read_table(self.path, ["id"])["id"]

    def failures(self, split: Split | None = None) -> dict[int, str]:
        """Row -> why it has no states, in ascending order; of one split, or of all."""
        failed = ~self._usable if split is None else ~self._usable & (self._columns["split"] == split).to_numpy()
        rows = np.flatnonzero(failed)
        return dict(zip(rows.tolist(), self._columns["failed"].iloc[rows].tolist(), strict=True))

    @cached_property
    def classes(self) -> dict[str, str | None]:
        """What the clips' labels stand for: label -> id of a target, or None for a class that is none of them."""
        return read_classes(self.path)

    def labels(self, rows: Sequence[int] | Int[np.ndarray, " rows"]) -> list[str | None]:
        """The class of each row, as the corpus names it; None where it has none.

        Raises:
            RequestError: if these are no rows of the store.
        """
        numbers = self.numbers(rows)
        return self.clips[LABEL].iloc[numbers].tolist() if LABEL in self.clips else [None] * len(numbers)

    def rows(self, split: Split | None = None) -> Int[np.ndarray, " rows"]:
        """Rows that have states, in ascending order; of one split, or of all.

        Raises:
            RequestError: if there is no such split.
        """
        if split is not None and str(split) not in SPLITS:
            expected = ", ".join(SPLITS)
            raise RequestError("there is no such split", where=self.path, expected=expected, found=repr(split))
        usable = self._usable if split is None else self._usable & (self._columns["split"] == split).to_numpy()
        return np.flatnonzero(usable)

    def with_splits(self, splits: Sequence[Split | None]) -> FeatureStore:
        """The same states and scores, divided otherwise, in memory alone; its fingerprint stays that of the states.

        Args:
            splits: of each clip, in the order of the table; None leaves it out of all of them.

        Raises:
            ValueError: if there are not as many as clips.
        """
        if len(splits) != len(self):
            raise ValueError(f"{len(splits)} splits for {len(self)} clips")
        column, other = pd.Series(list(splits), dtype=object), copy.copy(self)
        other.division = digest(list(splits))
        other.clips, other._columns = self.clips.assign(split=column), self._columns.assign(split=column)
        return other

    def scores(self, rows: Sequence[int] | Int[np.ndarray, " rows"]) -> Float32[np.ndarray, "rows targets"]:
        """Scores of `rows`, columns in the order of `targets`; NaN where nobody rated.

        Raises:
            RequestError: if these are no rows of the store.
        """
        scores: np.ndarray = self._scores[self.numbers(rows)]
        return scores

    def speech_frames(self, rows: Sequence[int] | Int[np.ndarray, " rows"]) -> Int64[np.ndarray, " rows"]:
        """How many states of each row hear the clip, not padding: 1 to the record's frames; 0 if failed.

        Raises:
            RequestError: if these are no rows of the store.
        """
        frames: np.ndarray = self._speech_frames[self.numbers(rows)]
        return frames

    def read(
        self,
        rows: Sequence[int] | Int[np.ndarray, " rows"],
        *,
        out: Float16[np.ndarray, "rows frames width"] | None = None,
    ) -> Float16[np.ndarray, "rows frames width"]:
        """States of `rows`, in that order; a row may occur twice. Every chunk's checksum is checked.

        Args:
            rows: of the store.
            out: where to put them, C-contiguous; None makes a new array.

        Raises:
            RequestError: if these are no rows of the store, a clip failed, or `out` has another shape.
            EmonetError: if a chunk is missing or damaged; names the clip.
        """
        wanted = self.numbers(rows)
        states = self._target(len(wanted), out)
        speech = self.speech_frames(wanted) if self.record.kept == "speech" else None
        # Neighbours in the store go to one thread: it opens their shard's file once.
        order = np.argsort(wanted, kind="stable")
        clips = list(zip(wanted[order].tolist(), order.tolist(), strict=True))
        threads = THREADS if isinstance(self.path, Path) else _REMOTE_THREADS
        size = max(1, -(-len(clips) // threads))
        parts = [clips[first : first + size] for first in range(0, len(clips), size)]
        # One part without a change of threads; but in the main thread Blosc would start threads of its own.
        mine = parts.pop() if parts and self._tier.plain else []
        others = [reading_pool(threads).submit(self._read, part, states, speech) for part in parts]
        try:
            self._read(mine, states, speech)
        finally:
            wait(others)  # nobody writes into the states any more when the caller hears of damage
        for other in others:
            other.result()
        return states

    def numbers(self, rows: Sequence[int] | Int[np.ndarray, " rows"]) -> Int64[np.ndarray, " rows"]:
        """`rows` as an array, which may be empty.

        Raises:
            RequestError: if they are no sequence of whole numbers, or one is out of range.
        """
        return _numbers(rows, len(self), self.path)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_indices": {}}

    @cached_property
    def _columns(self) -> pd.DataFrame:
        """The columns of the table that say which rows are which, without the scores."""
        return read_table(self.path, ["split", "speech_frames", "failed"])

    @cached_property
    def _usable(self) -> np.ndarray:
        return self._columns["failed"].isna().to_numpy()

    @cached_property
    def _speech_frames(self) -> Int64[np.ndarray, " clips"]:
        return self._columns["speech_frames"].to_numpy(np.int64)

    @cached_property
    def _scores(self) -> Float32[np.ndarray, "clips targets"]:
        return read_scores(self.path, self.targets.ids)

    @cached_property
    def _silence(self) -> Float16[np.ndarray, "frames width"]:
        return read_silence(self.path)

    def _target(self, rows: int, out: np.ndarray | None) -> Float16[np.ndarray, "rows frames width"]:
        shape = (rows, *self.record.shape[1:])
        if out is None:
            return np.empty(shape, np.float16)
        if out.shape != shape or out.dtype != np.float16 or not out.flags.c_contiguous:
            raise RequestError(
                "the states do not fit where they are to be read to",
                expected=f"float16 {shape}, C-contiguous",
                found=f"{out.dtype} {out.shape}",
            )
        return out

    def _read(
        self,
        clips: Sequence[tuple[int, int]],
        states: Float16[np.ndarray, "rows frames width"],
        speech: Int64[np.ndarray, " rows"] | None,
    ) -> None:
        """Fill `states[place]` for each pair of row and place; the rows ascend."""
        for shard, group in groupby(clips, lambda clip: clip[0] // self.record.shard_clips):
            if isinstance(self.path, RemotePath):
                self._read_remote(self.path, shard, list(group), states)
                continue
            scaled = self._chunks(shard, SCALES) if self._tier.scaled else nullcontext()
            with self._chunks(shard, STATES) as chunks, scaled as scales:
                for row, place in group:
                    self._read_clip(row, chunks, scales, states[place])
        if speech is not None:
            for _, place in clips:
                states[place, speech[place] :] = self._silence[speech[place] :]

    def _read_remote(
        self, remote: RemotePath, shard: int, clips: Sequence[tuple[int, int]], states: np.ndarray
    ) -> None:
        positions = [row % self.record.shard_clips for row, _ in clips]
        stored: list[list[bytes | None]] = []
        try:
            for array in (STATES, SCALES) if self._tier.scaled else (STATES,):
                file = shard_file(remote, shard, array)
                stored.append(RemoteShard(file, self.record.shard_clips, self._indices).read(positions))
        except DamagedChunkError as error:
            raise self._damaged(clips[0][0], str(error)) from error
        for (row, out), chunk, scales in zip(clips, stored[0], stored[-1], strict=True):
            if chunk is None or scales is None:
                raise self._missing(row)
            try:
                self._tier.decode(chunk, scales, states[out])
            except DamagedChunkError as error:
                raise self._damaged(row, " ".join(str(error).split())) from error

    def _chunks(self, shard: int, array: str) -> LocalShard:
        return LocalShard(str(shard_file(self.path, shard, array)), self.record.shard_clips, self._indices)

    def _read_clip(self, row: int, chunks: LocalShard, scales: LocalShard | None, out: np.ndarray) -> None:
        position = row % self.record.shard_clips
        try:
            if (place := chunks.place(position)) is None:
                raise self._missing(row)
            if self._tier.plain:
                read_plain(chunks.handle, place, out)
                return
            scale = None
            if scales is not None:
                if (where := scales.place(position)) is None:
                    raise self._missing(row)
                scale = read_chunk(scales.handle, where)
            self._tier.decode(read_chunk(chunks.handle, place), scale, out)
        except (OSError, DamagedChunkError) as error:
            raise self._damaged(row, " ".join(str(error).split())) from error

    def _missing(self, row: int) -> EmonetError:
        if self._usable[row]:
            return self._damaged(row, "its chunk is missing")
        return RequestError(
            f"clip {self._id(row)} has no states: {self._columns['failed'].iloc[row]}",
            where=f"{self.path}, row {row}",
            hint="FeatureStore.rows() gives the rows that have",
        )

    def _damaged(self, row: int, reason: str) -> EmonetError:
        return EmonetError(
            f"the states of clip {self._id(row)} cannot be read: {reason}",
            where=f"{self.path}, shard {row // self.record.shard_clips}",
            hint=how_to_repair(self.path),
        )

    def _id(self, row: int) -> str:
        return repr(str(self.ids.iloc[row]))


def _numbers(rows: object, count: int, where: object) -> Int64[np.ndarray, " rows"]:
    """What `FeatureStore.numbers` gives for anything that a caller may take for rows; the store has `count`."""
    expected = f"whole numbers from 0 to {count - 1}"
    try:
        found = np.asarray(rows)
    except ValueError as error:  # lists of different lengths
        raise RequestError("rows are a plain list of numbers", where=where, expected=expected, found=error) from error
    if found.dtype == np.bool_:
        mask = "np.flatnonzero(mask)"
        raise RequestError("rows are numbers, not a mask", where=where, expected=expected, found=found.dtype, hint=mask)
    if found.ndim != 1:
        shape = f"an array of shape {found.shape}" if found.ndim else f"{rows!r} alone"
        hint = None if found.ndim else f"[{rows}]"
        raise RequestError("rows are a plain list of numbers", where=where, expected=expected, found=shape, hint=hint)
    if len(found) and found.dtype.kind not in "iu":  # NumPy makes float64 of an empty list
        raise RequestError("rows are whole numbers", where=where, expected=expected, found=found.dtype)
    outside = (found < 0) | (found >= count)
    if outside.any():
        wrong = int(found[outside][0])
        raise RequestError("the store has no such row", where=where, expected=f"0 to {count - 1}", found=wrong)
    return found.astype(np.int64)
