"""Rows of a CSV, JSONL or Parquet file, each with the place that an error message names."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emonet.errors import RequestError

BATCH = 10_000  # rows of a Parquet file that are in memory at once


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Args:
        place: where it stands, e.g. `line 3`; the header of a CSV file is line 1.
        cells: column -> value: text, number, truth value or None.
        damage: why the row as a whole cannot be read; None if it can.
        header: where its columns are named, if not in the row itself.
    """

    place: str
    cells: Mapping[str, Any]
    damage: str | None = None
    header: str | None = None


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of `path`, by its suffix: `.csv`, `.jsonl` (or `.ndjson`), `.parquet`.

    Raises:
        RequestError: if the file is missing, of another kind, not UTF-8 or not readable as what its suffix says,
            or names a column twice.
    """
    readers = {".csv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet}
    if not path.is_file():
        raise RequestError(
            "the manifest does not exist",
            where=path.absolute(),
            expected="a .csv, .jsonl or .parquet file",
            found="a folder" if path.is_dir() else "no such path",
        )
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise RequestError(
            "the manifest is of an unknown kind",
            where=path,
            expected=", ".join(readers),
            found=path.suffix or "no suffix",
        )
    try:
        yield from reader(path)
    except UnicodeDecodeError as error:
        raise RequestError(
            "the manifest is not UTF-8 text",
            where=path,
            found=f"byte {error.object[error.start]:#04x} at position {error.start}",
            hint="save it with the encoding UTF-8",
        ) from error
    except csv.Error as error:
        raise RequestError("the manifest is not a readable CSV file", where=path, found=str(error)) from error
    except OSError as error:
        raise RequestError("the manifest cannot be opened", where=path, found=error.strerror or str(error)) from error


def _csv(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:  # -sig: spreadsheets write a byte order mark
        reader = csv.reader(file)
        header = [name.strip() for name in next(reader, [])]
        _refuse_separators(header, path)
        _refuse_repeated(header, path)
        for cells in reader:
            place = f"line {reader.line_num}"
            if len(cells) == len(header):
                yield Row(place, dict(zip(header, cells, strict=True)), header="line 1")
            elif cells:  # an empty line is no row
                counted = f"{len(cells)} cell{'s' * (len(cells) != 1)}"
                yield Row(place, {}, damage=f"{counted} where the header has {len(header)}")


def _refuse_separators(header: list[str], path: Path) -> None:
    """Spreadsheets that write decimals with a comma separate cells with something else."""
    for separator, name in {";": "semicolons (;)", "\t": "tabs"}.items():
        if len(header) == 1 and separator in header[0]:
            raise RequestError(
                f"the manifest looks separated by {name}",
                where=f"{path}, line 1",
                expected="cells separated by commas",
                found=repr(header[0]),
                hint="save it as CSV with commas, and points in numbers",
            )


def _refuse_repeated(header: list[str], path: Path) -> None:
    repeated = [name for name, n in Counter(header).items() if n > 1]
    if repeated:
        raise RequestError("the manifest names a column twice", where=path, found=", ".join(map(repr, repeated)))


def _jsonl(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            place = f"line {number}"
            try:
                cells = json.loads(line)
            except json.JSONDecodeError as error:
                yield Row(place, {}, damage=f"not JSON: {error.msg} at column {error.colno}")
                continue
            if isinstance(cells, dict):
                yield Row(place, cells)
            else:
                yield Row(place, {}, damage=f"a JSON object is expected, not {type(cells).__name__}")


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            _refuse_repeated(list(file.schema_arrow.names), path)
            number = 0
            for batch in file.iter_batches(BATCH):
                for cells in batch.to_pylist():
                    number += 1
                    yield Row(f"row {number}", cells, header="columns")
    except pa.ArrowException as error:
        raise RequestError(
            "the manifest is not a readable Parquet file", where=path, found=str(error).splitlines()[0]
        ) from error
