from __future__ import annotations

import re

import pytest

from emonet.evaluation import MARGIN, METRIC_NAMES, Estimate, PairwiseDifference, SwapTest, TargetDifference, judge
from experiments.arguments import CompareArguments

NONE = Estimate(value=None, low=None, high=None)


def estimate(value: float, half: float = 0.01) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half)


def swaps(smallest_p: float, smallest_corrected: float) -> SwapTest:
    smallest = {"smallest_p": smallest_p, "smallest_corrected": smallest_corrected}
    return SwapTest(unit="speakers", units=5, exact=True, permutations=16, tests=40, **smallest)


MANY, SOME, FEW = swaps(0.0001, 0.004), swaps(0.03, 1.0), swaps(0.0625, 1.0)  # speakers
RANGES = {"anger": 4.0, "fear": 4.0, "valence": 6.0, "awe": 4.0} | {f"e{number}": 4.0 for number in range(7)}


def pair(mean: Estimate, p: float | None = 0.01, **emotions: float | Estimate) -> PairwiseDifference:
    return PairwiseDifference(
        one="v2",
        other="v1",
        mean={name: mean if name == "mae" else NONE for name in METRIC_NAMES},
        p=p,
        emotions={
            target: TargetDifference(
                mae=value if isinstance(value, Estimate) else estimate(value), p=None, p_holm=None, clips=9
            )
            for target, value in emotions.items()
        },
    )


BETTER = estimate(-0.1)


@pytest.mark.parametrize(
    ("compared", "test", "options", "promote", "words"),
    [
        (pair(BETTER, anger=0.0), MANY, {}, True, "the interval lies below 0, p of 0.01 confirms it"),
        (pair(BETTER, 0.05, anger=0.0), MANY, {}, True, "p of 0.05 confirms it"),
        (pair(BETTER, 0.06, anger=0.0), MANY, {}, False, "the interval lies below 0, p of 0.06 does not confirm it"),
        (pair(BETTER, None, anger=0.0), SOME, {}, False, "p of undefined does not confirm it"),
        (pair(BETTER, 0.0625, anger=0.0), FEW, {}, True, "it alone counts: too few speakers for a p of 0.05"),
        (pair(estimate(0.1), 0.0625, anger=0.0), FEW, {}, False, "the interval lies above 0"),
        (pair(estimate(-0.005), anger=0.0), MANY, {}, False, "does not exclude 0"),
        (pair(estimate(0.1), anger=0.0), MANY, {}, False, "the interval lies above 0"),
        (pair(NONE, anger=0.0), MANY, {}, False, "there is no interval"),
        (
            pair(BETTER, anger=0.0, fear=-0.2),
            MANY,
            {},
            True,
            r"no target is worse, of 2: the 95 % interval ends below 2.5 % of the range; "
            r"nearest is anger \+0.000 \[-0.010, \+0.010\], margin 0.1",
        ),
        (pair(BETTER, anger=0.0899), MANY, {}, True, "nearest is anger"),
        (pair(BETTER, anger=0.0901), MANY, {}, False, r"not shown for 1 of 1 .*: anger \+0.090 \[\+0.080, \+0.100\]"),
        (pair(BETTER, anger=0.0901), MANY, {"margin": 0.05}, True, "ends below 5 % of the range; nearest is anger"),
        (pair(BETTER, anger=-0.011), MANY, {"margin": 0.0}, True, "no target is worse"),
        (pair(BETTER, anger=0.0), MANY, {"margin": 0.0}, False, "not shown for 1 of 1"),
        (pair(BETTER, valence=0.13), MANY, {}, True, r"nearest is valence \+0.130 .*margin 0.15"),
        (pair(BETTER, valence=0.13, anger=0.08), MANY, {}, True, "nearest is valence"),
        (
            pair(BETTER, anger=Estimate(value=-0.1, low=-0.5, high=0.3)),
            MANY,
            {},
            False,
            "that no target is worse is not shown",
        ),
        (
            pair(BETTER, anger=0.0, fear=Estimate(value=-1.0, low=None, high=None)),
            MANY,
            {},
            False,
            r"not shown for 1 of 2 .*fear -1.000 \(no interval: rated for one speaker or clip\)",
        ),
        (pair(BETTER, anger=0.0, awe=NONE), MANY, {}, True, "not judged, since nobody rated it here: awe"),
        (pair(BETTER, anger=0.0), MANY, {"unrated": ("joy",)}, True, "not judged, since nobody rated it here: joy"),
        (pair(BETTER, awe=NONE), MANY, {}, False, "no target can be shown to be no worse: nobody rated any"),
        (
            pair(BETTER, anger=0.0),
            MANY,
            {"missing": ("awe", "fear")},
            False,
            "v2 has no expert for what v1 scores: awe, fear",
        ),
    ],
)
def test_the_rule(compared: PairwiseDifference, test: SwapTest, options: dict, promote: bool, words: str) -> None:
    verdict = judge(compared, test, ranges=RANGES, **options)
    assert verdict.promote is promote
    assert len(verdict.reasons) == 3
    assert re.search(words, "\n".join(verdict.reasons), re.DOTALL)


def test_the_farthest_beyond_the_margin_are_named_first_and_the_rest_is_counted() -> None:
    many = {f"e{number}": 0.1 + number / 10 for number in range(7)}
    verdict = judge(pair(BETTER, **many), MANY, ranges=RANGES)
    assert verdict.reasons[-1].index("e6") < verdict.reasons[-1].index("e5")
    assert verdict.reasons[-1].endswith("and 2 more")
    assert set(verdict.unproven) == set(many)


def test_the_number_of_speakers_changes_intervals_and_not_the_rule() -> None:
    """What used to be two hypotheses: an estimate above the margin with a small p, or an interval above it."""
    worse = pair(BETTER, anger=Estimate(value=0.04, low=-0.1, high=0.18))
    for test in (MANY, SOME, FEW):
        assert judge(worse, test, ranges=RANGES).unproven == ("anger",)


def test_the_flag_has_the_rules_margin() -> None:
    assert CompareArguments(models=()).margin == MARGIN
