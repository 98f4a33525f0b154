"""Table of the clips of a store: a Parquet file beside the arrays, with digest and checksums, read in parts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32

from cache.store.places import Place, how_to_repair
from emonet.errors import EmonetError
from emonet.targets import TargetSpec

TABLE = "clips.parquet"
TEXTS = ("failed", "sound_digest", "sound_notices")  # columns of the table that are None for most clips
LABEL = "label"  # a further one, where clips have class labels
COLUMNS = MappingProxyType(  # of the table -> their types; beside them one of float32 for each target
    {
        **dict.fromkeys(("id", "split", "speaker", "language"), pa.string()),
        "seconds": pa.float64(),
        "speech_frames": pa.int64(),
        **dict.fromkeys((*TEXTS, LABEL), pa.string()),
    }
)
_GROUP = 1 << 16  # rows of the table's file that stand together
_ROWS = 1 << 14  # of the table that are worked on at once
_FINGERPRINT, _DIGEST = b"emonet.fingerprint", b"emonet.digest"  # keys in the table's metadata
# What Arrow and Pandas raise over bytes that are no table, or another one than was written.
_DAMAGED = (OSError, pa.ArrowException, ValueError, KeyError)


def table_bytes(columns: Mapping[str, Any], targets: TargetSpec, fingerprint: str) -> bytes:
    """The table of clips as a Parquet file; docs/store.md has the columns and their types."""
    fields = [
        *(pa.field(name, kind) for name, kind in COLUMNS.items() if name != LABEL or LABEL in columns),
        *(pa.field(name, pa.float32()) for name in targets.ids),
    ]
    table = pa.table(dict(columns), schema=pa.schema(fields))
    marks = {_FINGERPRINT: fingerprint.encode(), _DIGEST: table_digest(table.column_names, table.column).encode()}
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata(marks), sink, compression="zstd", write_page_checksum=True, row_group_size=_GROUP
    )
    return bytes(sink.getvalue().to_pybytes())


def table_digest(names: Sequence[str], column: Callable[[str], Any]) -> str:
    """SHA-256 in hex over an Arrow table's column names and values.

    Args:
        names: of the columns, in order.
        column: gives the one of a name, which is let go before the next is asked for.
    """
    state = hashlib.sha256()
    for name in names:
        values = column(name)
        state.update(f"{name}\n".encode())
        if pa.types.is_string(values.type):  # as one list in JSON, a part of it at a time
            state.update(b"[")
            for first in range(0, len(values), _ROWS):
                part = json.dumps(values.slice(first, _ROWS).to_pylist(), ensure_ascii=False)
                state.update(f"{', ' if first else ''}{part[1:-1]}".encode())
            state.update(b"]")
        else:  # a missing value is NaN here
            for chunk in values.chunks:
                state.update(np.ascontiguousarray(chunk.to_numpy(zero_copy_only=False)).data)
    return state.hexdigest()


def read_table(path: Place, columns: list[str] | None = None) -> pd.DataFrame:
    """The table of clips, or some of its columns.

    Raises:
        EmonetError: if it is damaged; a whole table is compared with its digest, columns only with their checksums.
    """
    with _readable(path):
        table = _read_columns(path, columns)
        if columns is None:
            _require_digest(table.schema, table.column)
        frame: pd.DataFrame = table.to_pandas()
        for name in {*TEXTS, LABEL} & set(frame):
            texts = frame[name].astype(object)
            frame[name] = texts.where(texts.notna(), None)
        return frame


def _read_columns(path: Place, columns: list[str] | None) -> Any:
    return pq.read_table(_table(path), columns=columns, page_checksum_verification=True)


@contextmanager
def _readable(path: Place) -> Iterator[None]:
    """Says that the table is damaged where reading it shows that."""
    try:
        yield
    except _DAMAGED as error:
        raise damaged_table(path, error) from error


def require_table(path: Place) -> None:
    """Check that the whole table of clips is what was written, a column at a time.

    Raises:
        EmonetError: if it is not.
    """
    with _readable(path):
        schema = pq.read_schema(_table(path))
        _require_digest(schema, lambda name: _read_columns(path, [name]).column(0))


def _require_digest(schema: Any, column: Callable[[str], Any]) -> None:
    if (schema.metadata or {}).get(_DIGEST) != table_digest(schema.names, column).encode():
        raise ValueError("it is not what was written")


def read_scores(path: Place, targets: Sequence[str]) -> Float32[np.ndarray, "clips targets"]:
    """The columns of some targets side by side, without holding the table.

    Raises:
        EmonetError: if it is damaged.
    """
    with _readable(path):
        clips, done = read_summary(path)[0], 0
        scores = np.empty((clips, len(targets)), np.float32)
        for part in table_parts(path, targets):
            columns = [
                part.column(part.schema.get_field_index(name)).to_numpy(zero_copy_only=False) for name in targets
            ]
            scores[done : done + len(part)] = np.stack(columns, 1)
            done += len(part)
        if done != clips:
            raise ValueError(f"{done} rows of {clips}")
        return scores


def table_parts(path: Place, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """Arrow batches of the table's rows, in order, of some columns or all.

    Raises:
        EmonetError: if it is damaged.
    """
    with _readable(path), pq.ParquetFile(_table(path), page_checksum_verification=True) as file:
        yield from file.iter_batches(_ROWS, columns=None if columns is None else list(columns))


def read_summary(path: Place) -> tuple[int, str]:
    """Rows of the table of clips, and the store's fingerprint: out of the file's footer, however long it is.

    Raises:
        EmonetError: if it is damaged.
    """
    with _readable(path):
        footer = pq.read_metadata(_table(path))
    return footer.num_rows, (footer.metadata or {}).get(_FINGERPRINT, b"").decode()


def _table(path: Place) -> Any:
    """The table's file, for pyarrow: an object's columns are read by ranges."""
    file = path / TABLE
    return file if isinstance(file, Path) else pa.PythonFile(file.open(), mode="r")


def damaged_table(path: Place, reason: object) -> EmonetError:
    """Says that the table of clips is damaged."""
    hint = how_to_repair(path)
    return EmonetError("the table of clips is damaged", where=path / TABLE, found=reason, hint=hint)
