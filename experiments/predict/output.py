"""Scores as a CSV or Parquet file, beside the columns of the table that was asked for, and as a plot."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emonet.errors import RequestError, shortened
from emonet.names import on_one_line
from emonet.runtime import durable
from emonet.targets import TargetSpec
from experiments.core import console
from experiments.predict.asked import Request
from experiments.predict.results import FilePrediction, PredictResult

if TYPE_CHECKING:
    import pandas as pd

_PART = ("start", "end", "speaker", "channel", "text")
OURS = ".predicted"  # follows the name of a column of scores that the table already has


def check_output(path: Path | None) -> None:
    """Refuse an output that cannot be written, before anything is loaded.

    Raises:
        RequestError: if its folder does not exist, or is nobody's to write, or it is a folder itself.
    """
    if path is None:
        return
    if not path.parent.is_dir():
        raise RequestError(
            "the output's folder does not exist", where=path, hint=f"mkdir -p {shlex.quote(str(path.parent))}"
        )
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise RequestError("the output cannot be written", where=path, expected="a file in a folder of yours")


def write_table(result: PredictResult, targets: Sequence[str], request: Request, path: Path) -> None:
    """Write a row for each prediction, as Parquet where the path ends so, else as CSV.

    Raises:
        OSError: if it cannot be written.
    """
    scores = _scores(result, targets, request)
    table = scores if request.table is None else _beside(_kept(request), scores)
    if path.suffix.lower() == ".parquet":
        written = BytesIO()
        table.to_parquet(written, index=False)
        content = written.getvalue()
    else:
        content = _without_bytes(table).to_csv(index=False).encode()
    if path.is_symlink() or (path.exists() and not path.is_file()):  # `/dev/stdout`, a pipe: it stays what it is
        path.write_bytes(content)
    else:
        durable.write(path, content)
    console.say(f"table: {console.name(path)}")


def _scores(result: PredictResult, targets: Sequence[str], request: Request) -> pd.DataFrame:
    import pandas as pd

    about = [f"{target}.uncertainty" for target in targets] if result.coverage is not None else []
    if any(one.standardised for one in result.predictions):
        about += [f"{target}.z" for target in targets]
    if any(one.unfamiliarity is not None for one in result.predictions):
        about.append("unfamiliarity")
    part: tuple[str, ...] = _PART if request.in_parts else ()
    if request.table is not None:
        part = ("channel",) if any(row.excerpt.channel is not None for row in request.rows) else ()
    named = ["audio"] if request.table is None else []
    columns = [*named, *part, "seconds", "total", *targets, *about, "notices", "error"]
    table = pd.DataFrame(map(_row, result.predictions), columns=columns)
    return table.astype({"channel": "Int64"}) if "channel" in columns else table


def _row(prediction: FilePrediction) -> dict[str, Any]:
    return {
        **prediction.model_dump(exclude={"scores", "uncertainties", "standardised", "notices"}),
        **prediction.scores,
        **{f"{target}.uncertainty": value for target, value in (prediction.uncertainties or {}).items()},
        **{f"{target}.z": value for target, value in (prediction.standardised or {}).items()},
        "notices": "; ".join(prediction.notices) or None,
    }


def _kept(request: Request) -> pd.DataFrame:
    """The table's columns, a row for each prediction; those of a Parquet file keep their types."""
    import pandas as pd
    from pyarrow import parquet

    if request.table is not None and request.table.suffix.lower() == ".parquet":
        taken = parquet.ParquetFile(request.table).read().take([row.position for row in request.rows])
        kept: pd.DataFrame = taken.to_pandas(ignore_metadata=True, types_mapper=pd.ArrowDtype)
        return kept
    return pd.DataFrame([dict(row.cells or {}) for row in request.rows])


def _beside(kept: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Both side by side; a column of scores that the table already has gets another name, which is told."""
    import pandas as pd

    names = {}
    for column in scores.columns:
        name = column
        while name in kept.columns:
            name += OURS
        names[column] = name
    renamed = [name for column, name in names.items() if name != column]
    if renamed:
        console.say(f"note: the table already has columns of these names; ours are {console.name(shortened(renamed))}")
    return pd.concat([kept, scores.rename(columns=names)], axis=1)


def _without_bytes(table: pd.DataFrame) -> pd.DataFrame:
    """The table without recordings inside of it, which a CSV file cannot hold."""
    held = [
        column
        for column in table.columns
        if any(isinstance(cell, bytes) or (isinstance(cell, dict) and "bytes" in cell) for cell in table[column])
    ]
    if held:
        console.say(f"note: left out of the CSV file: {console.name(shortened(held))}, which holds recordings")
    return table.drop(columns=held)


def draw_plot(result: PredictResult, spec: TargetSpec, path: Path) -> None:
    """The strongest scores of each recording or part, as a PNG file."""
    from emonet.evaluation import scores_figure

    scored = {on_one_line(one.title): one.scores for one in result.predictions if one.scores}
    drawn = scores_figure(scored, path, top=result.top, spec=spec)
    part = "" if drawn == len(scored) else f" (the first {drawn} of {console.counted(len(scored), 'recording')})"
    console.say(f"plot: {console.name(path)}{part}")
