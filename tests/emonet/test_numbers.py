from __future__ import annotations

import pytest

from emonet.evaluation import Estimate
from emonet.numbers import clock, duration, shown


@pytest.mark.parametrize(
    ("value", "digits", "signed", "text"),
    [
        (-0.0004, 3, False, "0.000"),
        (-0.004, 2, False, "0.00"),
        (-0.0, 2, False, "0.00"),
        (-0.006, 2, False, "-0.01"),
        (1.42567, 3, False, "1.426"),
        (-0.0004, 3, True, "+0.000"),
        (0.1, 3, True, "+0.100"),
        (None, 3, True, "–"),
    ],
)
def test_what_rounds_to_zero_has_no_minus_sign(value: float | None, digits: int, signed: bool, text: str) -> None:
    assert shown(value, digits, signed=signed) == text


def test_an_estimate_is_written_in_one_way() -> None:
    whole = Estimate(value=-0.0001, low=-0.0314, high=0.02)
    assert f"{whole}" == "0.000 [-0.031, 0.020]"
    assert f"{whole:+}" == "+0.000 [-0.031, +0.020]"
    assert format(whole.model_validate({"value": 0.5, "low": None, "high": None})) == "0.500"
    assert format(Estimate(value=None, low=None, high=None), "+") == "–"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00.0"),
        (7.5, "0:07.5"),
        (59.96, "1:00.0"),
        (3599.9, "59:59.9"),
        (3600, "1:00:00.0"),
        (36061.24, "10:01:01.2"),
    ],
)
def test_a_place_in_a_recording(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_a_length_of_time() -> None:
    assert [duration(one) for one in (4.25, 42, 200, 7500)] == ["4.2 s", "42 s", "3 min 20 s", "2 h 5 min"]
