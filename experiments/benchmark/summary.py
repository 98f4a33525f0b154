"""Summaries of a benchmark's tables at the terminal: whose figures, the first few of them, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from emonet.protocols import Column, ProtocolTable, Row
from experiments.benchmark.parts import Part
from experiments.core import console

_ROWS, _FIGURES = 8, 3  # of a table at the terminal; the page has all
_WIDEST = 48  # characters of a cell; sentences are the page's
_STYLES = {"measured": "", "published": "dim", "optimistic": "dim italic"}


def headline(part: Part) -> ProtocolTable | None:
    """The table that says most of a protocol: the first whose rows compete, or else the first with a measured row."""
    measured = [table for table in part.tables if any(row.kind == "measured" for row in table.rows)]
    return next((table for table in measured if table.compete), next(iter(measured), None))


def summary(table: ProtocolTable) -> Table:
    """The first measured rows of a table, and its first figures."""
    measured = [row for row in table.rows if row.kind == "measured"]
    names = [one for one in table.columns if any(isinstance(row.cells.get(one.name), str) for row in measured)]
    figures = [one for one in table.columns if one not in names and any(one.name in row.cells for row in measured)]
    judged = [one for one in figures if one.better is not None]
    shown = {one.name for one in (*names, *(judged or figures)[:_FIGURES])}
    made = drawn(table, [one for one in table.columns if one.name in shown], measured[:_ROWS])
    if len(measured) > _ROWS:
        made.caption = f"and {console.counted(len(measured) - _ROWS, 'more row')} on the page"
        made.caption_justify = "left"
    return made


def drawn(table: ProtocolTable, columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    """Some columns and rows of a table, as the terminal shows them; columns of sentences are left out."""
    made = Table(title=console.name(table.title), title_justify="left", box=None, padding=(0, 2, 0, 0))
    kept = [
        one
        for number, one in enumerate(columns)
        if number == 0 or all(len(table.text(row, one)) <= _WIDEST for row in table.rows)
    ]
    for number, column in enumerate(kept):
        made.add_column(console.name(column.label), justify="left" if number == 0 else "right")
    for row in rows:
        made.add_row(*(console.name(table.text(row, column)) for column in kept), style=_STYLES[row.kind])
    return made
