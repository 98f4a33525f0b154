"""The feature store: encoder states of every clip of a corpus, as one Zarr array with a table beside it.

The only module that imports zarr. No Zarr handle outlives a process: each process opens its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from jaxtyping import Float16, Float32, Int, Int64
from pydantic import ValidationError
from zarr.codecs import BloscCodec, Crc32cCodec

from cache.record import FORMAT, FORMAT_VERSION, ExtractionRecord
from emonet.clips import Split
from emonet.errors import EmonetError, RequestError
from emonet.targets import TargetSpec

ARRAY = "states"
TABLE = "clips.parquet"
_FINGERPRINT = b"emonet.fingerprint"  # key in the table's metadata
_AGAIN = "emonet extract with the same experiment: it goes on where it stopped"


class FeatureStore:
    """A finished store, opened for reading; open one with `FeatureStore.open`.

    Args:
        path: the folder NAME.zarr.
        record: what the store was made from.
        targets: what the scores mean.
        note: a sentence about the corpus (licence, limits).
        fingerprint: SHA-256 over the record and the content of every shard.
        clips: one row per clip, indexed as the array: id, split, speaker, language, seconds, speech_frames,
            failed (the reason, or None), and a column of scores per target (NaN where nobody rated).
    """

    def __init__(
        self,
        path: Path,
        record: ExtractionRecord,
        targets: TargetSpec,
        note: str,
        fingerprint: str,
        clips: pd.DataFrame,
    ) -> None:
        self.path = path
        self.record = record
        self.targets = targets
        self.note = note
        self.fingerprint = fingerprint
        self.clips = clips
        self._handle: tuple[int, Any] | None = None  # process id and open array

    @classmethod
    def open(cls, path: Path | str, *, expect: ExtractionRecord | None = None) -> FeatureStore:
        """Open a finished store.

        Args:
            path: the folder NAME.zarr.
            expect: what the store must have been made from; None takes it as it is.

        Raises:
            RequestError: if there is no store, it is not finished, of another format version, or not made
                from what `expect` says (each field that differs is listed).
            EmonetError: if the table does not fit the array.
        """
        path = Path(path)
        record, targets, note = read_attributes(path)
        if expect is not None:
            record.require(expect, where=path, hint="emonet extract --force, which makes the store anew")
        if not (path / TABLE).is_file():
            raise RequestError("the extraction into this store did not finish", where=path, hint=_AGAIN)
        table = _read_table(path)
        clips = table.to_pandas().astype({"failed": object})
        clips["failed"] = clips["failed"].where(clips["failed"].notna(), None)
        if len(clips) != record.clips:
            raise EmonetError(
                "the table of clips does not fit the array",
                where=path / TABLE,
                expected=f"{record.clips} clips",
                found=len(clips),
                hint="emonet extract --force",
            )
        fingerprint = (table.schema.metadata or {}).get(_FINGERPRINT, b"").decode()
        return cls(path, record, targets, note, fingerprint, clips)

    def __len__(self) -> int:
        return self.record.clips

    def rows(self, split: Split | None = None) -> Int[np.ndarray, " rows"]:
        """Rows that have states, in ascending order; of one split, or of all."""
        usable = self._usable if split is None else self._usable & (self.clips["split"] == split).to_numpy()
        return np.flatnonzero(usable)

    def scores(self, rows: Sequence[int] | Int[np.ndarray, " rows"]) -> Float32[np.ndarray, "rows targets"]:
        """Scores of `rows`, columns in the order of `targets`; NaN where nobody rated."""
        return self._scores[np.asarray(rows, np.int64)]

    def speech_frames(self, rows: Sequence[int] | Int[np.ndarray, " rows"]) -> Int64[np.ndarray, " rows"]:
        """How many states of each row hear the clip, not padding: 1 to the record's frames; 0 if failed."""
        return self.clips["speech_frames"].to_numpy(np.int64)[np.asarray(rows, np.int64)]

    def read(self, rows: Sequence[int] | Int[np.ndarray, " rows"]) -> Float16[np.ndarray, "rows frames width"]:
        """States of `rows`, in that order; a row may occur twice.

        Raises:
            RequestError: if a row is out of range or its clip failed.
            EmonetError: if a chunk is missing or damaged; names the clip.
        """
        wanted = np.asarray(rows, np.int64)
        self._check_rows(wanted)
        states = np.empty((len(wanted), self.record.frames, self.record.width), np.float16)
        order = np.argsort(wanted, kind="stable")
        for places in _runs(wanted, order, self.record.shard_clips):
            first, last = int(wanted[places[0]]), int(wanted[places[-1]])
            states[places] = self._slice(first, last + 1)
        # A stored state is always finite, and Zarr fills a missing chunk with NaN: one value per clip tells.
        missing = np.flatnonzero(np.isnan(states[:, 0, 0]))
        if len(missing):
            raise self._damaged(int(wanted[missing[0]]), "its chunk is missing")
        return states

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    @cached_property
    def _usable(self) -> np.ndarray:
        return self.clips["failed"].isna().to_numpy()

    @cached_property
    def _scores(self) -> Float32[np.ndarray, "clips targets"]:
        return self.clips[list(self.targets.ids)].to_numpy(np.float32)

    def _check_rows(self, rows: Int64[np.ndarray, " rows"]) -> None:
        outside = rows[(rows < 0) | (rows >= len(self))]
        if len(outside):
            raise RequestError(
                "the store has no such row",
                where=self.path,
                expected=f"0 to {len(self) - 1}",
                found=int(outside[0]),
            )
        failed = rows[~self._usable[rows]]
        if len(failed):
            row = int(failed[0])
            raise RequestError(
                f"clip {self._id(row)} has no states: {self.clips['failed'].iloc[row]}",
                where=f"{self.path}, row {row}",
                hint="FeatureStore.rows() gives the rows that have",
            )

    def _slice(self, first: int, end: int) -> Float16[np.ndarray, "rows frames width"]:
        if self._handle is None or self._handle[0] != os.getpid():
            self._handle = (os.getpid(), open_array(self.path))
        try:
            return np.asarray(self._handle[1][first:end])
        except (OSError, ValueError, RuntimeError) as error:
            raise self._damaged(first, " ".join(str(error).split()), end) from error

    def _id(self, row: int) -> str:
        return repr(str(self.clips["id"].iloc[row]))

    def _damaged(self, row: int, reason: str, end: int | None = None) -> EmonetError:
        others = f" or one of the {end - row - 1} after it" if end is not None and end - row > 1 else ""
        return EmonetError(
            f"the states of clip {self._id(row)}{others} cannot be read: {reason}",
            where=f"{self.path}, shard {row // self.record.shard_clips}",
            hint=f"emonet verify {self.path} --deep",
        )


def _runs(rows: np.ndarray, order: np.ndarray, shard_clips: int) -> list[np.ndarray]:
    """Positions in `rows`, grouped: the rows of a group are consecutive and in one shard, so one slice."""
    ordered = rows[order]
    breaks = (np.diff(ordered) != 1) | (ordered[1:] % shard_clips == 0)
    return np.split(order, np.flatnonzero(breaks) + 1) if len(order) else []


def create(path: Path, record: ExtractionRecord, targets: TargetSpec, note: str) -> None:
    """Make an empty store at `path`, which must not exist: the group with its attributes, and the array."""
    group = zarr.create_group(
        path,
        zarr_format=3,
        attributes={
            "format": FORMAT,
            "record": record.model_dump(mode="json"),
            "targets": targets.to_json(),  # type: ignore[dict-item]
            "note": note,
        },
    )
    group.create_array(
        ARRAY,
        shape=record.shape,
        dtype="float16",
        chunks=(1, record.frames, record.width),
        shards=(record.shard_clips, record.frames, record.width),
        fill_value=float("nan"),
        compressors=[BloscCodec(typesize=2, cname="zstd", clevel=5, shuffle="shuffle"), Crc32cCodec()],
        dimension_names=("clip", "frame", "feature"),
    )


def open_array(path: Path, *, mode: str = "r") -> Any:
    """The Zarr array of states; `mode` is Zarr's (`r`, `r+`)."""
    return zarr.open_array(path / ARRAY, mode=mode, zarr_format=3)  # type: ignore[arg-type]


def shard_file(path: Path, shard: int) -> Path:
    """Where Zarr keeps a shard."""
    return path / ARRAY / "c" / str(shard) / "0" / "0"


def read_attributes(path: Path) -> tuple[ExtractionRecord, TargetSpec, str]:
    """What the attributes of a store say: record, targets, note; without opening the array.

    Raises:
        RequestError: if there is no store at `path`, or one that this version cannot read.
    """
    attributes = _attributes(path)
    version = attributes.get("record", {}).get("format_version")
    if version != FORMAT_VERSION:
        raise RequestError("the store has another format version", where=path, expected=FORMAT_VERSION, found=version)
    try:
        record = ExtractionRecord.model_validate(attributes["record"])
        return record, TargetSpec.from_json(attributes["targets"]), str(attributes.get("note", ""))
    except (ValidationError, KeyError, TypeError) as error:
        raise RequestError("the attributes of the store are damaged", where=path / "zarr.json", found=error) from error


def require_store(path: Path) -> None:
    """Check that a folder is a store of emonet, of whatever version and state.

    Raises:
        RequestError: if it is not.
    """
    _attributes(path)


def _attributes(path: Path) -> dict[str, Any]:
    try:
        attributes: dict[str, Any] = json.loads((path / "zarr.json").read_text("utf-8"))["attributes"]
    except (OSError, ValueError, KeyError) as error:
        found = "no readable zarr.json" if path.exists() else "no such folder"
        raise RequestError(
            "there is no feature store", where=path, found=found, hint="emonet extract, which makes one"
        ) from error
    if attributes.get("format") != FORMAT:
        raise RequestError("this Zarr group is not a feature store of emonet", where=path)
    return attributes


def table_bytes(columns: Mapping[str, Any], targets: TargetSpec, fingerprint: str) -> bytes:
    """The table of clips as a Parquet file; docs/store.md has the columns and their types."""
    fields = [
        *(pa.field(name, pa.string()) for name in ("id", "split", "speaker", "language")),
        pa.field("seconds", pa.float64()),
        pa.field("speech_frames", pa.int64()),
        pa.field("failed", pa.string()),
        *(pa.field(name, pa.float32()) for name in targets.ids),
    ]
    schema = pa.schema(fields, metadata={_FINGERPRINT: fingerprint.encode()})
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(dict(columns), schema=schema), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def _read_table(path: Path) -> Any:
    try:
        return pq.read_table(path / TABLE)
    except (OSError, pa.ArrowException) as error:
        raise EmonetError(
            "the table of clips is damaged", where=path / TABLE, found=error, hint="emonet extract --force"
        ) from error
