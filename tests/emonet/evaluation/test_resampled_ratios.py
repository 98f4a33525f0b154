"""Ratios of sums over clips: their value, and intervals as explicit resampling gives them."""

from __future__ import annotations

import numpy as np
import pytest

from emonet.configs import EvaluationConfig
from emonet.evaluation import quotient, resample, resampled_sums

CONFIG = EvaluationConfig(resamples=60, confidence=0.9)


@pytest.mark.parametrize("different", [7, 3])
def test_intervals_are_those_of_explicit_resampling(different: int) -> None:
    """Of 7 speakers those are drawn, of 3 the clips."""
    rng = np.random.default_rng(0)
    part = (rng.random(50) < 0.4).astype(float)
    whole = np.maximum(part, (rng.random(50) < 0.7).astype(float))
    speakers = [f"s{row % different}" for row in range(50)]
    sums = resampled_sums(np.stack([part, whole], 1), speakers, CONFIG, seed=3)
    counts, owner, unit = resample(speakers, 60, 3)
    drawn = [
        part[rows].sum() / whole[rows].sum()
        for one in counts
        for rows in [np.repeat(range(50), one[owner].astype(int))]
    ]
    found = sums.ratio(0, 1)
    assert sums.resampled == unit == ("speakers" if different == 7 else "clips")
    assert found.value == pytest.approx(part.sum() / whole.sum())
    assert [found.low, found.high] == pytest.approx(np.percentile(drawn, [5, 95]).tolist())


def test_what_a_single_speaker_is_behind_has_no_interval() -> None:
    speakers = [f"s{row % 6}" for row in range(30)]
    columns = np.ones((30, 2))
    sums = resampled_sums(columns, speakers, CONFIG)
    alone = np.array([name == "s2" for name in speakers])
    assert (sums.ratio(0, 1, alone).value, sums.ratio(0, 1, alone).low) == (1.0, None)
    assert sums.ratio(0, 1).low == 1.0
    assert resampled_sums(columns[:1], ["s0"], CONFIG).ratio(0, 1).high is None


def test_a_share_of_nothing_is_undefined() -> None:
    sums = resampled_sums(np.zeros((12, 2)), [f"s{row}" for row in range(12)], CONFIG)
    assert sums.ratio(0, 1).model_dump() == {"value": None, "low": None, "high": None}
    assert np.isnan(quotient(np.array([0.0, 1.0]), np.array([0.0, 2.0]))).tolist() == [True, False]
