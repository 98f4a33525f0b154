from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emonet.tables.cells import as_cell_text, as_name, as_number, as_seconds, is_missing


@pytest.mark.parametrize(
    "value",
    [*("", " ", "NaN", "nan", "-nan", "NA", "N/A", "n/a", "#N/A", "#NA", "NaT", "None", "null", "NULL", "<NA>", "-", "--"),
     *("?", ".", "\\N", "\u2013", None, math.nan, pd.NaT)],
)  # fmt: skip
def test_words_for_missing(value: Any) -> None:
    assert is_missing(value)


@pytest.mark.parametrize(
    "value", ["Nora", "no", "0", 0, 0.0, False, "na-1", "none of it", "a-b", b"", [], {}, math.inf]
)
def test_what_is_not_missing(value: Any) -> None:
    assert not is_missing(value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1.5, 1.5),
        ("1.5", 1.5),
        (" 2 ", 2.0),
        (Decimal("0.25"), 0.25),
        ("0 days 00:00:00.100000", 0.1),
        ("0 days 00:00:00.100000001", 0.100000001),
        ("0 days", 0.0),
        ("1 days 02:03:04.5", 93_784.5),
        ("1 day, 0:00:01.500000", 86_401.5),
        ("-1 days +23:59:59.9", -0.1),
        ("00:00:01.5", 1.5),
        ("00:00:01,500", 1.5),
        ("1:02.25", 62.25),
        ("01:02:03", 3723.0),
        ("-00:00:01", -1.0),
        ("26:00:00", 93_600.0),
        ("P0DT0H0M1.5S", 1.5),
        ("PT1M", 60.0),
        ("PT1.5S", 1.5),
        ("1.5s", 1.5),
        ("100 ms", 0.1),
        ("2 min", 120.0),
        (dt.timedelta(seconds=1.5), 1.5),
        (pd.Timedelta("1.5s"), 1.5),
        (dt.time(0, 1, 2, 500_000), 62.5),
    ],
)
def test_seconds_in_many_ways(value: Any, seconds: float) -> None:
    assert as_seconds(value) == pytest.approx(seconds, abs=1e-9)


@pytest.mark.parametrize(
    "value", ["soon", "1:2:3:4", "days", "P", "PT", "1.5 parsecs", "12:", True, "inf", [1], {}, b"1s"]
)
def test_what_is_no_time(value: Any) -> None:
    assert as_seconds(value) is None


@given(st.timedeltas(dt.timedelta(days=-3), dt.timedelta(days=3)))
def test_spans_come_back_as_pandas_and_python_write_them(span: dt.timedelta) -> None:
    for written in (str(span), str(pd.Timedelta(span)), pd.Timedelta(span).isoformat(), span):
        assert as_seconds(written) == pytest.approx(span.total_seconds(), abs=1e-6)


@pytest.mark.parametrize(
    ("value", "name"),
    [*((7, "7"), (7.0, "7"), ("7.0", "7"), ("7.00", "7"), ("07", "07"), (7.5, "7.5"), ("v1.0.0", "v1.0.0"), (b"eve", "eve")),
     *((" eve ", "eve"), (Decimal("7.0"), "7"), ("\ud800", "\\ud800"), (True, None), ([], None), (b"\xff", None))],
)  # fmt: skip
def test_names_of_people_and_clips(value: Any, name: str | None) -> None:
    assert as_name(value) == name


def test_text_and_numbers() -> None:
    assert as_cell_text("7.0") == "7.0"
    assert [as_number(value) for value in ("x", True, math.inf, "nan", None, "1e400", 10**400)] == [None] * 7
    assert as_number("-1.5") == -1.5
