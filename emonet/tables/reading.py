"""Rows of a CSV, TSV, JSONL or Parquet file or object, each with the place that an error message names."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from io import TextIOWrapper
from pathlib import Path, PurePosixPath
from typing import Any

from emonet.errors import RequestError, brief
from emonet.objects import is_url, open_location, size_of, without_query
from emonet.tables.parquet import Held, parquet_rows

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


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


def read_rows(path: Path | str, what: str = "the manifest", *, held: Held | None = None) -> Iterator[Row]:
    """The rows of `path`, by its suffix: `.csv`, `.tsv`, `.jsonl` (or `.ndjson`), `.parquet`.

    Args:
        path: of the table, or its address in an object store.
        what: it is called in messages.
        held: makes what stands for recordings inside of a Parquet file; None reads them into memory.

    Raises:
        RequestError: if the file is missing, of another kind, not UTF-8 or not readable as what its suffix says,
            or names a column twice.
    """
    in_parquet = partial(_parquet, held=held)
    readers: dict[str, Callable[[str, str], Iterator[Row]]] = dict(
        zip(SUFFIXES, (_csv, _tsv, _jsonl, _jsonl, in_parquet), strict=True)
    )
    path, suffix = str(path), _suffix(str(path))
    if not is_url(path) and size_of(path) is None:  # of objects those that open them ask
        raise _absent(path, what)
    reader = readers.get(suffix.lower())
    if reader is None:
        raise RequestError(
            f"{what} is of an unknown kind",
            where=path,
            expected=", ".join(readers),
            found=suffix or "no suffix",
        )
    try:
        yield from reader(path, what)
    except FileNotFoundError as error:
        raise _absent(path, what) from error
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{what} is not UTF-8 text",
            where=path,
            found=f"byte {error.object[error.start]:#04x} at position {error.start}",
            hint="save it with the encoding UTF-8",
        ) from error
    except csv.Error as error:
        raise RequestError(f"{what} is not a readable CSV file", where=path, found=str(error)) from error
    except OSError as error:
        raise RequestError(f"{what} cannot be opened", where=path, found=error.strerror or str(error)) from error


def _absent(path: str, what: str) -> RequestError:
    is_folder = os.path.isdir(path)  # noqa: PTH112 of a name that is too long False
    return RequestError(
        f"{what} does not exist",
        where=path if is_url(path) else Path(path).absolute(),
        expected="a .csv, .tsv, .jsonl or .parquet file",
        found="no such object" if is_url(path) else "a folder" if is_folder else "no such path",
    )


def _suffix(path: str) -> str:
    """Of a path or address, without what an address of the web has behind it: `https://host/x.csv?download=1`."""
    return PurePosixPath(without_query(path)).suffix


def _tsv(path: str, what: str) -> Iterator[Row]:
    yield from _csv(path, what, "\t", "tabs")


def _csv(path: str, what: str, delimiter: str = ",", named: str = "commas") -> Iterator[Row]:
    with TextIOWrapper(
        open_location(path), encoding="utf-8-sig", newline=""
    ) as file:  # -sig: spreadsheets write a byte order mark
        reader = csv.reader(file, delimiter=delimiter)
        header = [name.strip() for name in next(reader, [])]
        _refuse_separators(header, path, what, named)
        _refuse_repeated(header, path, what)
        for cells in reader:
            place = f"line {reader.line_num}"
            if len(cells) == len(header):
                yield Row(place, dict(zip(header, cells, strict=True)), header="line 1")
            elif cells:  # an empty line is no row
                counted = f"{len(cells)} cell{'s' * (len(cells) != 1)}"
                yield Row(place, {}, damage=f"{counted} where the header has {len(header)}")


def _refuse_separators(header: list[str], path: str, what: str, named: str) -> None:
    """Spreadsheets that write decimals with a comma separate cells with something else."""
    for separator, name in {";": "semicolons (;)", "\t": "tabs", ",": "commas"}.items():
        if len(header) == 1 and separator in header[0]:
            raise RequestError(
                f"{what} looks separated by {name}",
                where=f"{path}, line 1",
                expected=f"cells separated by {named}",
                found=brief(header[0]),
                hint=f"save it as {_suffix(path)[1:].upper()} with {named}, and points in numbers",
            )


def _refuse_repeated(header: list[str], path: str, what: str) -> None:
    repeated = [name for name, n in Counter(header).items() if n > 1]
    if repeated:
        raise RequestError(f"{what} names a column twice", where=path, found=", ".join(map(brief, repeated[:10])))


def _jsonl(path: str, what: str) -> Iterator[Row]:  # noqa: ARG001 as the others
    with TextIOWrapper(open_location(path), encoding="utf-8-sig") as file:
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


def _parquet(path: str, what: str, held: Held | None) -> Iterator[Row]:
    import pyarrow as pa

    try:
        for number, cells in enumerate(parquet_rows(path, held, lambda names: _refuse_repeated(names, path, what)), 1):
            yield Row(f"row {number}", cells, header="columns")
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise RequestError(
            f"{what} is not a readable Parquet file", where=path, found=str(error).splitlines()[0]
        ) from error
