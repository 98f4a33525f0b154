"""Manifests that tests write: three clips of three speakers, in each format."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from emonet.corpora.manifest.reader import open_manifest
from emonet.errors import RequestError

Rows = Sequence[Mapping[str, Any]]


def write(path: Path, rows: Rows) -> Path:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if path.suffix == ".csv":
        lines = [",".join(columns), *(",".join(str(row.get(c, "")) for c in columns) for row in rows)]
        path.write_text("\n".join(lines) + "\n", "utf-8")
    elif path.suffix == ".parquet":
        parquet.write_table(pa.table({c: [row.get(c) for row in rows] for c in columns}), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def rows(**changes: Any) -> list[dict[str, Any]]:
    """Three clips of three speakers; `changes` go into the second."""
    table = [{"audio": f"audio/{n}.wav", "speaker": n, "split": split, "anger": 1.5} for n, split in
             zip("abc", ("train", "validation", "test"), strict=True)]  # fmt: skip
    table[1] |= changes
    return table


def problem(folder: Path, table: Rows, suffix: str = ".jsonl") -> str:
    with pytest.raises(RequestError) as caught:
        open_manifest(write(folder / f"m{suffix}", table))
    return str(caught.value)
