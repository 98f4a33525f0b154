"""Rows of a CSV, JSONL or Parquet file, each with the place that an error message names."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emonet.errors import RequestError, brief
from emonet.runtime import available_bytes

BATCH = 10_000  # rows of a Parquet file that are in memory at once
BATCH_OF_BYTES = 32  # the same where rows hold recordings


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
                found=brief(header[0]),
                hint="save it as CSV with commas, and points in numbers",
            )


def _refuse_repeated(header: list[str], path: Path) -> None:
    repeated = [name for name, n in Counter(header).items() if n > 1]
    if repeated:
        raise RequestError("the manifest names a column twice", where=path, found=", ".join(map(brief, repeated[:10])))


def _jsonl(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            place = f"line {number}"
            try:
                cells = json.loads(line)
            except (ValueError, RecursionError) as error:  # also numbers too long and lists too deep for Python
                yield Row(place, {}, damage=f"not JSON: {_reason(error)}")
                continue
            if isinstance(cells, dict):
                yield Row(place, cells)
            else:
                yield Row(place, {}, damage=f"a JSON object is expected, not {type(cells).__name__}")


def _reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    if isinstance(error, RecursionError):
        return "lists or objects are nested too deeply"
    return f"a whole number has more than {sys.get_int_max_str_digits():,} digits"


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            _refuse_repeated(list(file.schema_arrow.names), path)
            holds_bytes = any(_is_binary(kind) for kind in file.schema_arrow.types)
            if holds_bytes:
                _require_memory(file, path)
            number = 0
            for batch in file.iter_batches(BATCH_OF_BYTES if holds_bytes else BATCH):
                columns = {name: _values(batch.column(name)) for name in batch.schema.names}
                for cells in zip(*columns.values(), strict=True):
                    number += 1
                    yield Row(f"row {number}", dict(zip(columns, cells, strict=True)), header="columns")
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise RequestError(
            "the manifest is not a readable Parquet file", where=path, found=str(error).splitlines()[0]
        ) from error


def _values(column: Any) -> list[Any]:
    """A column's values; spans and times of the clock in seconds, without pandas, which Arrow would need for them."""
    import pyarrow as pa

    if pa.types.is_duration(column.type) or pa.types.is_time(column.type):
        per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[column.type.unit]
        whole = column.cast(pa.int32() if pa.types.is_time32(column.type) else pa.int64())
        return [None if count is None else count / per_second for count in whole.to_pylist()]
    values: list[Any] = column.to_pylist()
    return values


def _is_binary(kind: Any) -> bool:
    """Whether a column holds bytes, by itself or in a field, as the audio of Hugging Face's data sets does."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(_is_binary(kind.field(position).type) for position in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _require_memory(file: Any, path: Path) -> None:
    """Refuse a table whose embedded audio would not fit, before it is read: as clips it stays in memory.

    Raises:
        RequestError: if it has more bytes than are free.
    """
    metadata = file.metadata
    needed = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    free = available_bytes()
    if needed > free:
        raise RequestError(
            "the audio inside of this table does not fit into memory",
            where=path,
            expected=f"at most {free / 1e9:.1f} GB",
            found=f"{needed / 1e9:.1f} GB",
            hint="write the recordings to files, and their paths into the column `audio`",
        )
