"""Tables of a benchmark: cells as text, as plain values, and which of them is the best."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from emonet.evaluation import Estimate
from emonet.protocols import Column, ProtocolTable, Row

MODEL = Column(name="model", label="Model")
R = Column(name="r", label="Pearson", better="higher", digits=2)
CLIPS = Column(name="clips", label="Clips")


def table(*rows: Row) -> ProtocolTable:
    return ProtocolTable(name="t", title="T", source="here", columns=(MODEL, R, CLIPS), rows=rows, compete=True)


ROWS = (
    Row(cells={"model": "ours", "r": Estimate(value=0.4, low=0.3, high=0.5), "clips": 12_600}),
    Row(cells={"model": "theirs", "r": 0.7}, kind="published"),
    Row(cells={"model": "chosen on test", "r": 0.9}, kind="optimistic"),
    Row(cells={"model": "silent", "r": Estimate(value=None, low=None, high=None)}),
)


def test_cells_are_text() -> None:
    one = table(*ROWS)
    shown = [[one.text(row, column) for column in one.columns] for row in one.rows]
    assert shown == [
        ["ours", "0.40 [0.30, 0.50]", "12,600"],
        ["theirs", "0.70", "–"],
        ["chosen on test", "0.90", "–"],
        ["silent", "–", "–"],
    ]


def test_records_are_plain_values_with_intervals_beside() -> None:
    first, second, *_ = table(*ROWS).records()
    assert first == {"model": "ours", "r": 0.4, "r_low": 0.3, "r_high": 0.5, "clips": 12_600, "kind": "measured"}
    assert second == {"model": "theirs", "r": 0.7, "r_low": None, "r_high": None, "clips": None, "kind": "published"}


def test_only_what_was_measured_honestly_can_be_best() -> None:
    one = table(*ROWS)
    assert (one.best(R), one.best(CLIPS), table().best(R)) == (0.4, None, None)


def test_a_cell_without_a_column_is_refused() -> None:
    with pytest.raises(ValidationError, match="cells of t have no column: mae"):
        table(Row(cells={"mae": 0.1}))


def test_a_table_survives_json() -> None:
    one = table(*ROWS)
    assert ProtocolTable.model_validate_json(one.model_dump_json()) == one


def test_tables_of_several_models_are_one_that_says_whose_each_row_is() -> None:
    one = table(ROWS[0]).with_notes("of all", "of one")
    other = ProtocolTable(
        name="t", title="T", source="here", columns=(MODEL, Column(name="ua", label="UA")), notes=("of all",),
        rows=(Row(cells={"model": "theirs", "ua": 0.5}, kind="published"),),
    )  # fmt: skip
    whose = Column(name="whose", label="Whose")
    joined = ProtocolTable.joined({"a": one, "b": other}, whose)
    assert [column.name for column in joined.columns] == ["whose", "model", "r", "clips", "ua"]
    assert [(row.cells["whose"], row.kind) for row in joined.rows] == [("a", "measured"), ("b", "published")]
    assert joined.notes == ("of all", "a: of one")
    assert ProtocolTable.joined({"a": one}, whose) == one
