from __future__ import annotations

import re

import pytest

from emonet.comparison import EmotionDifference, PairwiseDifference
from emonet.evaluation import METRIC_NAMES, Estimate
from emonet.promotion import judge

NONE = Estimate(value=None, low=None, high=None)


def estimate(value: float, half: float = 0.01) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half)


def pair(mean: Estimate, **emotions: tuple[float, float | None]) -> PairwiseDifference:
    return PairwiseDifference(
        one="v2",
        other="v1",
        mean={name: mean if name == "mae" else NONE for name in METRIC_NAMES},
        p=0.01,
        emotions={
            target: EmotionDifference(mae=estimate(value), p=p, p_holm=p, clips=9)
            for target, (value, p) in emotions.items()
        },
    )


BETTER = estimate(-0.1)


@pytest.mark.parametrize(
    ("compared", "options", "promote", "words"),
    [
        (pair(BETTER), {}, True, "the interval lies below 0"),
        (pair(estimate(-0.005)), {}, False, "does not exclude 0"),
        (pair(estimate(0.1)), {}, False, "the interval lies above 0"),
        (pair(NONE), {}, False, "there is no interval"),
        (pair(BETTER, anger=(0.2, 0.01)), {}, False, r"worse by more than 0.05 .*anger \+0.200 \[\+0.190, \+0.210\]"),
        (pair(BETTER, anger=(0.2, 0.01)), {"margin": 0.3}, True, "no emotion is significantly worse by more than 0.3"),
        (pair(BETTER, anger=(0.2, 0.06)), {}, True, "no emotion"),
        (pair(BETTER, anger=(0.2, None)), {}, True, "no emotion"),
        (pair(BETTER, anger=(0.04, 0.001)), {}, True, "no emotion"),
        (pair(BETTER, anger=(0.2, 0.5)), {"testable": False}, False, "too few speakers.*anger"),
        (pair(BETTER, anger=(0.055, 0.5)), {"testable": False}, True, "too few speakers"),
        (pair(BETTER), {"missing": ("awe", "fear")}, False, "v2 has no expert for what v1 scores: awe, fear"),
    ],
)
def test_the_rule(compared: PairwiseDifference, options: dict, promote: bool, words: str) -> None:
    verdict = judge(compared, **options)
    assert verdict.promote is promote
    assert len(verdict.reasons) == 3
    assert re.search(words, "\n".join(verdict.reasons), re.DOTALL)


def test_the_worst_emotions_are_named_first_and_the_rest_is_counted() -> None:
    many = {f"e{number}": (0.1 + number / 10, 0.001) for number in range(7)}
    reason = judge(pair(BETTER, **many)).reasons[-1]
    assert reason.index("e6") < reason.index("e5")
    assert reason.endswith("and 2 more")
