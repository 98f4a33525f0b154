"""Rows of a Parquet file; recordings inside of it may stay there, as places that are read when they are heard."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from emonet.errors import RequestError
from emonet.objects import open_location
from emonet.runtime import available_bytes
from emonet.tables.columns import names_audio

BATCH = 10_000  # rows that are in memory at once
BATCH_OF_BYTES = 32  # the same where rows hold recordings
_CELLS = 16  # recordings that are decoded at once, of a row group that may be larger than memory
_BUFFER = 1 << 20  # bytes of a column that are read at once
Held = Callable[[str, str, int, int, int], object]
"""Makes what stands for bytes that stay in a Parquet file, of its location, column, row group, row in it and size."""


def parquet_rows(
    path: str, held: Held | None, check: Callable[[list[str]], None] = lambda _: None
) -> Iterator[dict[str, Any]]:
    """Rows of a Parquet file: column -> value.

    Args:
        path: or its address in an object store.
        held: makes what stands for recordings that stay in the file; with it, numbers of classes become their names
            where Hugging Face's `datasets` has written these into the file. None reads the recordings into memory.
        check: is told the names of all columns.

    Raises:
        RequestError: if bytes that are read do not fit into memory.
        ArrowException, OSError: if it cannot be read.
    """
    from pyarrow import parquet

    with open_location(path) as source, parquet.ParquetFile(source, buffer_size=_BUFFER, pre_buffer=False) as file:
        schema = file.schema_arrow
        check(list(schema.names))
        binary = {entry.name for entry in schema if _is_binary(entry.type)}
        staying = set() if held is None else {name for name in binary if names_audio(name)}
        classes = {} if held is None else _class_names(schema.metadata or {})
        if binary - staying:
            _require_memory(file, path, binary - staying)
        for group in range(file.num_row_groups):
            first = 0
            for batch in file.iter_batches(BATCH_OF_BYTES if binary else BATCH, row_groups=[group]):
                columns: dict[str, list[Any]] = {}
                for name in batch.schema.names:
                    if held is not None and name in staying:
                        columns[name] = _places(batch.column(name), name, partial(held, path), group, first)
                    else:
                        columns[name] = _named(_values(batch.column(name)), classes.get(name))
                first += batch.num_rows
                yield from (dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True))


def cells_of(path: str, column: str, group: int) -> Iterator[Any]:
    """Cells of one column of a row group, in arrays of some at a time: pages before a cell have to be decoded anyway.

    Args:
        path: or its address in an object store.
        column: as `Held` was told it: with a dot before each field of a struct.
        group: the row group (from 0).

    Raises:
        ArrowException, OSError: if it cannot be read.
        LookupError: if there is no such column.
    """
    from pyarrow import parquet, types

    with open_location(path) as source, parquet.ParquetFile(source, buffer_size=_BUFFER, pre_buffer=False) as file:
        for batch in file.iter_batches(_CELLS, row_groups=[group], columns=[column], use_threads=False):
            cells = batch.column(0)
            while types.is_struct(cells.type):  # of which nothing but the one field was read
                cells = cells.field(0)
            yield cells


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, Sequence[str]]:
    """Column of class numbers -> names of the classes, as `datasets` keeps them beside the table."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {
            name: about["names"]
            for name, about in features.items()
            if isinstance(about, dict) and about.get("_type") == "ClassLabel" and about.get("names")
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _named(values: list[Any], names: Sequence[str] | None) -> list[Any]:
    """Names in place of numbers; -1 stands for a class that is not known."""
    if names is None:
        return values
    return [names[value] if isinstance(value, int) and 0 <= value < len(names) else None for value in values]


def _places(column: Any, name: str, held: Callable[[str, int, int, int], object], group: int, first: int) -> list[Any]:
    """Where the bytes of a column's cells are; of a struct's, beside its other fields."""
    import pyarrow as pa
    from pyarrow import compute

    if not pa.types.is_struct(column.type):
        sizes = compute.binary_length(column).to_pylist()
        return [None if size is None else held(name, group, first + row, size) for row, size in enumerate(sizes)]
    fields = {}
    for entry in column.type:
        values = compute.struct_field(column, entry.name)
        leaf = f"{name}.{entry.name}"
        fields[entry.name] = _places(values, leaf, held, group, first) if _is_binary(entry.type) else _values(values)
    rows = [dict(zip(fields, cells, strict=True)) for cells in zip(*fields.values(), strict=True)]
    return [cells if is_there else None for cells, is_there in zip(rows, column.is_valid().to_pylist(), strict=True)]


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


def _require_memory(file: Any, path: str, names: set[str]) -> None:
    """Refuse a table whose columns of bytes would not fit, before it is read: as clips they stay in memory.

    Raises:
        RequestError: if it has more bytes than are free.
    """
    metadata = file.metadata
    chunks = (
        metadata.row_group(group).column(place)
        for group in range(metadata.num_row_groups)
        for place in range(metadata.num_columns)
    )
    needed = sum(one.total_uncompressed_size for one in chunks if one.path_in_schema.split(".")[0] in names)
    free = available_bytes()
    if needed > free:
        raise RequestError(
            "the audio inside of this table does not fit into memory",
            where=path,
            expected=f"at most {free / 1e9:.1f} GB",
            found=f"{needed / 1e9:.1f} GB",
            hint="write the recordings to files, and their paths into the column `audio`",
        )
