from __future__ import annotations

import re

import pytest

from emonet.comparison import EmotionDifference, PairwiseDifference
from emonet.evaluation import METRIC_NAMES, Estimate
from emonet.permutation import SwapTest
from emonet.promotion import judge

NONE = Estimate(value=None, low=None, high=None)


def estimate(value: float, half: float = 0.01) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half)


def swaps(smallest_p: float, smallest_corrected: float) -> SwapTest:
    smallest = {"smallest_p": smallest_p, "smallest_corrected": smallest_corrected}
    return SwapTest(unit="speakers", units=5, exact=True, permutations=16, tests=40, **smallest)


MANY, SOME, FEW = swaps(0.0001, 0.004), swaps(0.03, 1.0), swaps(0.0625, 1.0)  # speakers


def pair(mean: Estimate, p: float | None = 0.01, **emotions: tuple[float, float | None]) -> PairwiseDifference:
    return PairwiseDifference(
        one="v2",
        other="v1",
        mean={name: mean if name == "mae" else NONE for name in METRIC_NAMES},
        p=p,
        emotions={
            target: EmotionDifference(mae=estimate(value), p=corrected, p_holm=corrected, clips=9)
            for target, (value, corrected) in emotions.items()
        },
    )


BETTER = estimate(-0.1)


@pytest.mark.parametrize(
    ("compared", "test", "options", "promote", "words"),
    [
        (pair(BETTER), MANY, {}, True, "the interval lies below 0, p of 0.01 confirms it"),
        (pair(BETTER, 0.05), MANY, {}, True, "p of 0.05 confirms it"),
        (pair(BETTER, 0.06), MANY, {}, False, "the interval lies below 0, p of 0.06 does not confirm it"),
        (pair(BETTER, None), SOME, {}, False, "p of undefined does not confirm it"),
        (pair(BETTER, 0.0625), FEW, {}, True, "it alone counts: too few speakers for a p of 0.05"),
        (pair(estimate(0.1), 0.0625), FEW, {}, False, "the interval lies above 0"),
        (pair(estimate(-0.005)), MANY, {}, False, "does not exclude 0"),
        (pair(estimate(0.1)), MANY, {}, False, "the interval lies above 0"),
        (pair(NONE), MANY, {}, False, "there is no interval"),
        (
            pair(BETTER, anger=(0.2, 0.01)),
            MANY,
            {},
            False,
            r"worse by more than 0.05 .*anger \+0.200 \[\+0.190, \+0.210\]",
        ),
        (
            pair(BETTER, anger=(0.2, 0.01)),
            MANY,
            {"margin": 0.3},
            True,
            "no emotion is significantly worse by more than 0.3",
        ),
        (pair(BETTER, anger=(0.2, 0.06)), MANY, {}, True, "no emotion"),
        (pair(BETTER, anger=(0.2, None)), MANY, {}, True, "no emotion"),
        (pair(BETTER, anger=(0.04, 0.001)), MANY, {}, True, "no emotion"),
        (pair(BETTER, anger=(0.2, 0.5)), SOME, {}, False, "too few speakers.*anger"),
        (pair(BETTER, anger=(0.055, 0.5)), SOME, {}, True, "too few speakers"),
        (pair(BETTER), MANY, {"missing": ("awe", "fear")}, False, "v2 has no expert for what v1 scores: awe, fear"),
    ],
)
def test_the_rule(compared: PairwiseDifference, test: SwapTest, options: dict, promote: bool, words: str) -> None:
    verdict = judge(compared, test, **options)
    assert verdict.promote is promote
    assert len(verdict.reasons) == 3
    assert re.search(words, "\n".join(verdict.reasons), re.DOTALL)


def test_the_worst_emotions_are_named_first_and_the_rest_is_counted() -> None:
    many = {f"e{number}": (0.1 + number / 10, 0.001) for number in range(7)}
    reason = judge(pair(BETTER, **many), MANY).reasons[-1]
    assert reason.index("e6") < reason.index("e5")
    assert reason.endswith("and 2 more")
