from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from emonet.checkpoints import ExpertsInfo, Population, fit_population, read_info
from emonet.checkpoints.population import FLOOR
from emonet.targets import PUBLISHED

pytestmark = pytest.mark.numeric

SPEC = PUBLISHED.subset(["anger", "age"])


@given(arrays(np.float32, st.tuples(st.integers(1, 30), st.just(2)), elements=st.floats(-2, 400, width=16)))
def test_standard_scores_rise_with_scores_and_have_a_median_of_0_on_the_training_clips(scores: np.ndarray) -> None:
    """Also where all clips have the same score, whose MAD is 0."""
    population = fit_population(scores, SPEC)
    rows = [population.standardised(dict(zip(SPEC.ids, row.tolist(), strict=True))) for row in scores]
    for column, target in enumerate(SPEC):
        found = np.array([row[target.id] for row in rows])
        assert np.isfinite(found).all()
        assert np.median(found) == pytest.approx(0, abs=1e-9)
        order = np.argsort(scores[:, column], kind="stable")
        assert (np.diff(found[order]) >= 0).all()
        assert population.deviations[target.id] >= FLOOR * (target.high - target.low)


def test_a_deviation_is_that_of_a_normal_distribution() -> None:
    scores = np.random.default_rng(0).normal([1.0, 50.0], [0.5, 8.0], (20_000, 2))
    scores[:100] = 1e3  # far away, and few: neither figure follows them
    population = fit_population(scores, SPEC)
    assert population.medians == pytest.approx({"anger": 1.0, "age": 50.0}, rel=0.02)
    assert population.deviations == pytest.approx({"anger": 0.5, "age": 8.0}, rel=0.03)
    assert population.clips == 20_000
    assert population.standardised({"anger": 2.0, "awe": 3.0}) == pytest.approx({"anger": 2.0}, abs=0.1)


def test_several_banks_have_one_population() -> None:
    one = Population(medians={"anger": 1.0}, deviations={"anger": 0.5}, clips=30)
    two = Population(medians={"fear": 2.0}, deviations={"fear": 0.25}, clips=20)
    joined = Population.joined([one, None, two])
    assert joined is not None
    assert joined.standardised({"fear": 1.0, "anger": 1.0}) == {"fear": -4.0, "anger": 0.0}
    assert joined.clips == 20
    assert Population.joined([None, None]) is None


def test_it_is_kept_with_the_experts_and_older_ones_have_none(ensemble_voice: Path) -> None:
    info = read_info(ensemble_voice / "experts")
    assert info.population is None
    known = Population(medians={"anger": 0.1 + 0.2}, deviations={"anger": 1 / 3}, clips=1)
    told = ExpertsInfo.model_validate({**info.model_dump(), "population": known}).model_dump_json()
    assert ExpertsInfo.model_validate_json(told).population == known
    with pytest.raises(ValueError, match="of different targets"):
        Population(medians={"anger": 1.0}, deviations={}, clips=1)
