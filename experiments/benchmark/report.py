"""Report of a benchmark: one self-contained page, and each table as CSV and LaTeX."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from emonet.evaluation import Estimate
from emonet.protocols import Column, ProtocolTable, Row
from emonet.schema import Schema
from experiments.benchmark.parts import Part
from experiments.benchmark.summary import headline
from experiments.core import INDEX, decoration, render, write_text

if TYPE_CHECKING:
    import pandas as pd

JSON, TABLES = "benchmark.json", "tables"
_FORBIDDEN = re.compile(r"[^\w.-]+")  # in names of files
_UNLOGGED = re.compile(r"[^\w. -]+")
_ARROWS = {"lower": " ↓", "higher": " ↑", None: ""}
_LATEX = str.maketrans(
    {
        **{sign: rf"\{sign}" for sign in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "–": "--",
        "↓": r"$\downarrow$",
        "↑": r"$\uparrow$",
    }
)


class Report(Schema):
    """All that a benchmark says: `benchmark.json`."""

    name: str
    """Of the plan."""
    description: str
    """What it is for."""
    facts: dict[str, str]
    """How it was made."""
    protocols: dict[str, ProtocolTable]
    """Key of each table -> the table; where two entries have one of the same name: ENTRY/NAME."""
    headlines: dict[str, str]
    """Entry -> key of the table that says most of it."""
    skipped: dict[str, str]
    """Entry that was left out -> why."""
    seconds: dict[str, float]
    """Entry -> how long it took (seconds)."""


def report_of(name: str, description: str, facts: Mapping[str, str], parts: Sequence[Part]) -> Report:
    """Put the parts together."""
    names = [table.name for part in parts for table in part.tables]

    def key(part: Part, table: ProtocolTable) -> str:
        return table.name if names.count(table.name) == 1 else f"{part.key}/{table.name}"

    return Report(
        name=name,
        description=description,
        facts=dict(facts),
        protocols={key(part, table): table for part in parts for table in part.tables},
        headlines={part.key: key(part, first) for part in parts if (first := headline(part)) is not None},
        skipped={part.key: part.skipped for part in parts if part.skipped is not None},
        seconds={part.key: part.seconds for part in parts if part.skipped is None},
    )


def write_report(folder: Path, report: Report, parts: Sequence[Part], pictures: Path) -> None:
    """Write `benchmark.json`, `index.html`, and `tables/NAME.csv` and `.tex`.

    Args:
        folder: where to.
        report: what they say.
        parts: in the order of the page.
        pictures: folder with the folders of the parts.
    """
    write_text(folder / JSON, report.model_dump_json(indent=2) + "\n")
    for former in (*(folder / TABLES).glob("*.csv"), *(folder / TABLES).glob("*.tex")):
        former.unlink()  # it would be taken for one of this report
    for key, table in report.protocols.items():
        file = _FORBIDDEN.sub("-", key)  # a suffix is put behind it: names of models have points in them
        write_text(folder / TABLES / f"{file}.csv", frame_of(table).to_csv(index=False, lineterminator="\n"))
        write_text(folder / TABLES / f"{file}.tex", latex_of(table))
    (folder / INDEX).unlink(missing_ok=True)  # a former one would stand beside figures that it does not show
    with decoration("the page"):
        sections = [
            {
                "part": part,
                "tables": [_shown(table) for table in part.tables],
                "pictures": [
                    (_embedded(pictures / part.key / picture.file), picture.text) for picture in part.pictures
                ],
            }
            for part in parts
        ]
        write_text(folder / INDEX, render("benchmark/benchmark.html", report=report, sections=sections))


def figures_of(report: Report) -> dict[str, float]:
    """Measured figures of tables whose rows compete, as they are logged: `table5/champion/spearman`."""
    found = {}
    for key, table in report.protocols.items():
        for row in table.rows if table.compete else ():
            whose = next((cell for cell in row.cells.values() if isinstance(cell, str)), "")
            for column in table.columns:
                cell = row.cells.get(column.name)
                value = cell.value if isinstance(cell, Estimate) else cell
                if row.kind == "measured" and column.better is not None and isinstance(value, int | float):
                    found["/".join(map(_logged, (key, whose, column.name)))] = float(value)
    return found


def _logged(part: str) -> str:
    """A part of a metric's name; MLflow takes no other signs, and no path that leads elsewhere."""
    return _UNLOGGED.sub("-", part).strip(".") or "-"


def frame_of(table: ProtocolTable) -> pd.DataFrame:
    """A table of plain values; intervals stand beside their figures."""
    import pandas as pd

    return pd.DataFrame(table.records())


def latex_of(table: ProtocolTable) -> str:
    """A table for a paper, with booktabs' rules; the best measured figure of each column is bold."""
    import pandas as pd

    rows = [
        [_latex(table, row, column) for column in table.columns]
        for row in table.rows
        if row.kind != "optimistic"  # nothing that was chosen on test clips goes into a paper by itself
    ]
    heads = [_escaped(column.label + _ARROWS[column.better]) for column in table.columns]
    text: str = pd.DataFrame(rows, columns=heads).to_latex(
        index=False, column_format="l" + "r" * (len(heads) - 1), caption=_escaped(table.title), label=table.name
    )
    return text


def _latex(table: ProtocolTable, row: Row, column: Column) -> str:
    text = _escaped(table.text(row, column))
    return rf"\textbf{{{text}}}" if _is_best(table, row, column) else text


def _escaped(text: str) -> str:
    return text.translate(_LATEX)


def _is_best(table: ProtocolTable, row: Row, column: Column) -> bool:
    best = table.best(column)
    cell = row.cells.get(column.name)
    value = getattr(cell, "value", cell)
    return row.kind == "measured" and best is not None and value == best


def _shown(table: ProtocolTable) -> dict[str, object]:
    """What the page's template draws of a table."""
    return {
        "table": table,
        "heads": [(column.label + _ARROWS[column.better], column.about) for column in table.columns],
        "rows": [(row.kind, list(_cells(table, row))) for row in table.rows],
    }


def _cells(table: ProtocolTable, row: Row) -> Iterable[tuple[str, str, str, bool]]:
    """Of each cell: the figure, its interval, what it is sorted by, and whether it is the best."""
    for column in table.columns:
        cell = row.cells.get(column.name)
        figure, _, interval = table.text(row, column).partition(" [") if not isinstance(cell, str) else (cell, "", "")
        value = getattr(cell, "value", cell)
        best = _is_best(table, row, column)
        yield figure, f"[{interval}" if interval else "", "" if value is None else str(value), best


def _embedded(picture: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
