"""Files of ratings that a plan names: the Bench's, a sample that is made, or a table; and what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emonet.encoders import file_digest
from emonet.errors import RequestError
from emonet.protocols import write_bench_sample
from experiments.benchmark.context import Context
from experiments.benchmark.plan import SAMPLE


def data_file(data: str, what: str, context: Context) -> Path:
    """The file or folder of a plan's data; the sample is made.

    Raises:
        RequestError: if it is not there.
    """
    if data == SAMPLE:
        path = context.folder / "bench-sample.parquet"
        if not path.is_file():
            context.folder.mkdir(parents=True, exist_ok=True)
            write_bench_sample(path)
        return path
    path = Path(data).expanduser()
    if not path.exists():
        raise RequestError(
            f"{what} is not there",
            where=path,
            hint=f"docs/benchmark-bench.md says where to get the Bench; {SAMPLE!r} in its place makes a small one",
        )
    return path


def is_bench(path: Path) -> bool:
    """Whether a file, or a folder, has the form of EmoNet-Voice Bench."""
    from pyarrow import ArrowException
    from pyarrow.parquet import read_schema

    if path.is_dir():
        return True
    try:
        return path.suffix == ".parquet" and {"audioId", "label"} <= set(read_schema(path).names)
    except (OSError, ArrowException):
        return False  # told by whoever reads it


def content_of(path: Path) -> Any:
    """What is in a file, or in the Parquet files of a folder."""
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    return [[file.name, file_digest(file)] for file in files]
