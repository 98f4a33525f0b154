"""Tables of a benchmark: columns with their direction, rows that say whether they were measured, and plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from emonet.evaluation import Estimate
from emonet.numbers import UNDEFINED, shown
from emonet.schema import Schema

Cell = str | int | float | Estimate | None
"""A name, a count, a figure, a figure with its interval, or nothing where it is undefined."""


class Column(Schema):
    """One column of a table."""

    name: str
    """Its key in rows, CSV and JSON."""
    label: str
    """What people read above it."""
    better: Literal["lower", "higher"] | None = None
    """Which direction is better; none for what is no figure of merit."""
    digits: int = Field(3, ge=0)
    """Of a figure, after the point (count)."""
    about: str = ""
    """What it is, with its unit, in a sentence."""


class Row(Schema):
    """One row of a table."""

    cells: dict[str, Cell]
    """By column; what is left out is undefined."""
    kind: Literal["measured", "published", "optimistic"] = "measured"
    """Measured here, copied from a publication, or chosen by test clips, which makes it too good."""


class ProtocolTable(Schema):
    """What one table of a benchmark says."""

    name: str
    """Its key, such as `table6`."""
    title: str
    """What it shows, in a sentence."""
    source: str
    """Where its protocol was published: paper and table or section."""
    columns: tuple[Column, ...] = Field(min_length=1)
    """From left to right."""
    rows: tuple[Row, ...]
    """From top to bottom."""
    compete: bool = False
    """Whether rows are models or encoders that compete, so that the best figure of a column means something."""
    notes: tuple[str, ...] = ()
    """What a reader has to know: clips left out, what cannot be reconciled."""

    @model_validator(mode="after")
    def _known(self) -> ProtocolTable:
        names = [column.name for column in self.columns]
        if len(set(names)) < len(names):
            raise ValueError(f"two columns of {self.name} have the same name")
        if unknown := sorted({name for row in self.rows for name in row.cells} - set(names)):
            raise ValueError(f"cells of {self.name} have no column: {', '.join(unknown)}")
        return self

    def with_notes(self, *notes: str) -> ProtocolTable:
        """The same table, with more that a reader has to know."""
        return ProtocolTable.model_validate({**dict(self), "notes": (*self.notes, *notes)})

    def called(self, name: str) -> ProtocolTable:
        """The same table under another key."""
        return ProtocolTable.model_validate({**dict(self), "name": name})

    def renamed(self, of: str) -> ProtocolTable:
        """The same table as one of several alike: `of` tells it from the others."""
        return ProtocolTable.model_validate(
            {**dict(self), "name": f"{self.name}: {of}", "title": f"{self.title}: {of}"}
        )

    @classmethod
    def joined(cls, tables: Mapping[str, ProtocolTable], column: Column) -> ProtocolTable:
        """Tables of the same columns as one, whose first column says whose each row is; a single one stays as it is.

        Args:
            tables: whose -> table; one at least.
            column: the further one.
        """
        first = next(iter(tables.values()))
        if len(tables) == 1:
            return first
        rows = [
            {**dict(row), "cells": {column.name: whose, **row.cells}}
            for whose, table in tables.items()
            for row in table.rows
        ]
        # Columns of one that another lacks (a metric that only one model can be judged by) stay empty there.
        columns = {one.name: one for table in tables.values() for one in table.columns}
        notes = dict.fromkeys(
            note if all(note in table.notes for table in tables.values()) else f"{whose}: {note}"
            for whose, table in tables.items()
            for note in table.notes
        )
        joined = {"columns": (column, *columns.values()), "rows": rows, "notes": tuple(notes)}
        return cls.model_validate({**dict(first), **joined})

    def records(self) -> list[dict[str, str | int | float | None]]:
        """Rows of plain values, as CSV files hold them; an interval stands in `NAME_low` and `NAME_high`."""
        spread = {name for row in self.rows for name, cell in row.cells.items() if isinstance(cell, Estimate)}
        records = []
        for row in self.rows:
            record: dict[str, str | int | float | None] = {}
            for column in self.columns:
                cell = row.cells.get(column.name)
                record[column.name] = cell.value if isinstance(cell, Estimate) else cell
                if column.name in spread:
                    ends = (cell.low, cell.high) if isinstance(cell, Estimate) else (None, None)
                    record |= dict(zip((f"{column.name}_low", f"{column.name}_high"), ends, strict=True))
            records.append(record | {"kind": row.kind})
        return records

    def text(self, row: Row, column: Column) -> str:
        """A cell as people read it: `0.412 [0.380, 0.447]`, or a dash where it is undefined."""
        cell = row.cells.get(column.name)
        if cell is None or isinstance(cell, str):
            return cell or UNDEFINED
        if isinstance(cell, Estimate):
            value = shown(cell.value, column.digits)
            ends = [shown(end, column.digits) for end in (cell.low, cell.high)]
            return value if UNDEFINED in (value, *ends) else f"{value} [{ends[0]}, {ends[1]}]"
        return f"{cell:,}" if isinstance(cell, int) else shown(cell, column.digits)

    def best(self, column: Column) -> float | None:
        """The best measured figure of a column; None where there is none, no direction is better, or none compete."""
        if not self.compete or column.better is None:
            return None
        cells = [row.cells.get(column.name) for row in self.rows if row.kind == "measured"]
        values = [cell.value if isinstance(cell, Estimate) else cell for cell in cells]
        figures = [float(value) for value in values if isinstance(value, int | float)]
        if not figures:
            return None
        return max(figures) if column.better == "higher" else min(figures)
