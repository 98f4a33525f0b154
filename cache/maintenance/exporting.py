"""Export of a store's states for other programs: safetensors files, or one .npy that can be mapped into memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float16, Int
from pydantic import NonNegativeInt
from safetensors.numpy import save

from cache.store import FeatureStore, place, require_table, table_parts
from emonet.clips import Rejection, Split
from emonet.configs import Pool
from emonet.errors import EmonetError, RequestError
from emonet.objects import is_url
from emonet.runtime import Progress, durable, ignore
from emonet.schema import Schema

Form = Literal["safetensors", "npy"]
FORMAT, VERSION = "emonet-export", 1
ABOUT, TABLE = "export.json", "clips.parquet"
FILE_BYTES = 256 << 20  # of states in one safetensors file, which is held in memory twice while it is written
READ_BYTES = 64 << 20  # of states that are read at a time
RESERVE = 64 << 20  # bytes left free for the table and whatever else the machine does
_KEPT = "nothing was exported, and what was there before is still there"


class ExportReport(Schema):
    """What `emonet store export` wrote."""

    out: Path
    """The folder."""
    format: Form
    """Form of the states."""
    clips: NonNegativeInt
    """Clips with states (count)."""
    shape: tuple[int, int, int]
    """Clips, what is kept of each (states, or the four statistics of a pooled store), width."""
    pool: Pool
    """What these are: states (none), or mean, minimum, maximum and deviation over those that hear the clip."""
    files: tuple[str, ...]
    """Files with states, in the order of the clips."""
    bytes: NonNegativeInt
    """Size of these files (bytes)."""
    left_out: tuple[Rejection, ...]
    """Clips without states, and why."""
    fingerprint: str
    """That of the store."""


def export(
    store: FeatureStore,
    out: Path,
    form: Form,
    *,
    split: Split | None = None,
    force: bool = False,
    progress: Progress = ignore,
) -> ExportReport:
    """Write the states of all readable clips, a table of these clips, and a description.

    The table `clips.parquet` has one row per clip in the order of the states: `row` counts from 0, `store_row` is the
    row of the store, `file` the name of the file with its states; the other columns are those of the store.

    Args:
        store: to be exported.
        out: the folder to make; it appears when it is whole.
        form: `safetensors`: files `states-00000-of-00023.safetensors` with tensors `states` (clips, frames, width) and
            `rows` (of the table); `npy`: one `states.npy`, float16 (clips, frames, width).
            Of a pooled store, they hold its statistics (clips, 4, width).
        split: only its clips; None takes all.
        force: replace an export that already exists.
        progress: called with clips written.

    Raises:
        RequestError: if `out` already exists and is not to be replaced, or no export, or no clip is to be exported.
        EmonetError: if the disk has too little space, or the table or a chunk of the store is damaged.
    """
    require_table(store.path)
    rows = store.rows(split)
    if not len(rows):
        what = "the store has no readable clips" + (f" in the split {split!r}" if split else "")
        raise RequestError(what, where=store.path, hint=f"emonet store info {store.path}")
    _check_place(store, out, force=force)
    with durable.explained(out.parent, what="the export", kept=_KEPT, then="it starts from the beginning"):
        out.parent.mkdir(parents=True, exist_ok=True)
        _check_space(out, len(rows) * store.clip_bytes)
        with durable.replacing(out) as folder:
            report = _Export(store, rows, folder, progress).write(out, form, split)
            for file in folder.iterdir():
                durable.sync_up_to(file, folder)
    return report


@final
class _Export:
    def __init__(self, store: FeatureStore, rows: Int[np.ndarray, " rows"], folder: Path, progress: Progress) -> None:
        self._store = store
        self._rows = rows
        self._folder = folder
        self._progress = progress
        self._shape = (len(rows), *store.record.shape[1:])

    def write(self, out: Path, form: Form, split: Split | None) -> ExportReport:
        self._progress(0, len(self._rows))
        counts = self._npy() if form == "npy" else self._safetensors()
        self._table(counts)
        failed = self._store.failures(split)
        report = ExportReport(
            out=out,
            format=form,
            clips=len(self._rows),
            shape=self._shape,
            pool=self._store.record.pool,
            files=tuple(counts),
            bytes=sum((self._folder / name).stat().st_size for name in counts),
            left_out=tuple(Rejection(str(self._store.ids.iloc[row]), why) for row, why in failed.items()),
            fingerprint=self._store.fingerprint,
        )
        self._about(report, split)
        return report

    def _npy(self) -> dict[str, int]:
        """One file, written front to back: through a memory map a full disk would end the process (SIGBUS)."""
        header = {"descr": np.dtype(np.float16).str, "fortran_order": False, "shape": self._shape}
        with (self._folder / "states.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for states in self._read(0, len(self._rows)):
                file.write(states.data)
        return {"states.npy": len(self._rows)}

    def _safetensors(self) -> dict[str, int]:
        clips = max(1, FILE_BYTES // self._store.clip_bytes)
        files = -(-len(self._rows) // clips)
        counts = {}
        for number in range(files):
            first, end = number * clips, min((number + 1) * clips, len(self._rows))
            name = f"states-{number:05d}-of-{files:05d}.safetensors"
            tensors = {"states": np.concatenate([*self._read(first, end)]), "rows": np.arange(first, end)}
            # Written here, since safetensors' own errors do not say that a disk is full.
            content = save(tensors, {"format": FORMAT, "fingerprint": self._store.fingerprint})
            (self._folder / name).write_bytes(content)
            counts[name] = end - first
        return counts

    def _read(self, first: int, end: int) -> Iterator[Float16[np.ndarray, "part frames width"]]:
        step = max(1, READ_BYTES // self._store.clip_bytes)
        for start in range(first, end, step):
            stop = min(start + step, end)
            yield self._store.read(self._rows[start:stop])
            self._progress(stop, len(self._rows))

    def _table(self, counts: dict[str, int]) -> None:
        """The rows of the store's table, some at a time: of a million clips it is half a gigabyte."""
        names, ends = pa.array(list(counts), pa.string()), np.cumsum([*counts.values()])
        with ExitStack() as opened:
            written: pq.ParquetWriter | None = None
            done = first = 0
            for part in table_parts(self._store.path):
                rows = self._rows[np.searchsorted(self._rows, first) : np.searchsorted(self._rows, first + len(part))]
                places = np.arange(done, done + len(rows))
                columns = {
                    "row": pa.array(places),
                    "store_row": pa.array(rows),
                    "file": names.take(pa.array(np.searchsorted(ends, places, side="right"))),
                    **dict(zip(part.schema.names, part.take(pa.array(rows - first)).columns, strict=True)),
                }
                del columns["failed"]
                table = pa.table(columns)
                if written is None:
                    written = opened.enter_context(
                        pq.ParquetWriter(self._folder / TABLE, table.schema, compression="zstd")
                    )
                written.write_table(table)
                done, first = done + len(rows), first + len(part)

    def _about(self, report: ExportReport, split: Split | None) -> None:
        about: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "store": str(self._store.path),
            "note": self._store.note,
            "split": split,
            "record": self._store.record.model_dump(mode="json"),
            "targets": self._store.targets.to_json(),
            **report.model_dump(mode="json", exclude={"out", "format"}),
        }
        (self._folder / ABOUT).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _check_place(store: FeatureStore, out: Path, *, force: bool) -> None:
    if is_url(out):
        raise RequestError("an export is a folder of this machine", where=place(out), hint="a path; copy it from there")
    if isinstance(store.path, Path) and out.resolve().is_relative_to(store.path.resolve()):
        raise RequestError("an export cannot lie inside the store", where=out)
    if not out.exists():
        return
    if not force:
        raise RequestError("the folder already exists", where=out, hint="another folder, or --force to replace it")
    if not _is_export(out):
        raise RequestError(
            "what is there is no export of emonet, so it is not replaced",
            where=out,
            expected=f"a folder with an {ABOUT}",
            hint="another folder",
        )


def _is_export(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / ABOUT).read_text("utf-8"))["format"] == FORMAT)
    except (OSError, ValueError, KeyError, TypeError):
        return folder.is_dir() and not any(folder.iterdir())


def _check_space(out: Path, size: int) -> None:
    free = shutil.disk_usage(out.parent).free
    if size + RESERVE > free:
        raise EmonetError(
            "the disk has too little space for the export",
            where=out,
            expected=f"{(size + RESERVE) / 1e9:.2f} GB free",
            found=f"{free / 1e9:.2f} GB",
            hint="free some space, a folder on a larger disk, or --split train",
        )
