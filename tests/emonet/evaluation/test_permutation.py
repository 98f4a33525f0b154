from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from emonet.evaluation import describe, holm, swapped

pytestmark = pytest.mark.numeric


def all_swaps(differences: np.ndarray, owner: np.ndarray) -> list[float]:
    """P values by the definition: every swap of every unit, one target after another, and the mean."""
    columns = [differences[:, target] for target in range(differences.shape[1])]
    means = []
    for signs in product((1, -1), repeat=int(owner.max()) + 1):
        swap = np.array(signs)[owner]
        each = [np.nanmean(swap * column) for column in columns]
        means.append([*each, np.mean(each)])
    found = np.abs(means)
    return [float((found[:, column] >= found[0, column] - 1e-12).mean()) for column in range(found.shape[1])]


@pytest.mark.parametrize("units", [4, 9])
def test_few_units_are_swapped_in_every_way(units: int) -> None:
    rng = np.random.default_rng(units)
    owner = np.concatenate([np.arange(units), rng.integers(0, units, 20)])
    differences = rng.normal(0.1, 1, (len(owner), 3)).round(1)
    differences[rng.random(differences.shape) < 0.2] = np.nan
    p = swapped(differences, owner, permutations=1 << units, seed=0)
    np.testing.assert_allclose(p, all_swaps(differences, owner))


def test_many_units_are_swapped_at_random() -> None:
    rng = np.random.default_rng(0)
    differences = rng.normal([0.0, 0.15, 0.9], 1, (60, 3))
    owner = np.arange(60)
    p = swapped(differences, owner, permutations=20_000, seed=1)
    oracle = stats.permutation_test(
        (differences[:, 1],), np.mean, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(2)
    )
    assert p[1] == pytest.approx(oracle.pvalue, abs=0.02)
    assert p[2] == 1 / 20_001, "as large as none of the swaps: the found difference itself counts as one"
    assert (p == swapped(differences, owner, permutations=20_000, seed=1)).all()
    assert (p != swapped(differences, owner, permutations=20_000, seed=2)).any()


def test_clips_of_a_speaker_are_swapped_together() -> None:
    rng = np.random.default_rng(3)
    owner = np.repeat(np.arange(10), 50)
    differences = (rng.normal(0, 1, 10)[owner] + rng.normal(0, 0.1, 500) + 0.3)[:, None]
    alone, together = (swapped(differences, units, permutations=5000, seed=0)[0] for units in (np.arange(500), owner))
    assert alone < 0.01, "as if each clip were news"
    assert together > 0.1


def test_what_nobody_rated_has_no_p_value() -> None:
    differences = np.array([[1.0, np.nan], [2.0, np.nan], [1.0, np.nan]])
    p = swapped(differences, np.arange(3), permutations=8, seed=0)
    assert np.isnan(p[1])
    assert (p[0], p[2]) == (0.25, 0.25), "3 units: 2 of 8 swaps turn all signs alike"
    assert np.isnan(swapped(differences[:, 1:], np.arange(3), permutations=8, seed=0)).all()


@settings(max_examples=50)
@given(st.integers(2, 30), st.integers(0, 10_000), st.sampled_from([16, 500]))
def test_it_does_not_matter_which_model_is_first(clips: int, seed: int, permutations: int) -> None:
    rng = np.random.default_rng(seed)
    owner = rng.integers(0, 8, clips)
    owner = np.unique(owner, return_inverse=True)[1]
    differences = rng.integers(-2, 3, (clips, 4)) / 2
    one, other = (swapped(sign * differences, owner, permutations=permutations, seed=seed) for sign in (1, -1))
    assert (one == other).all()
    assert ((one > 0) & (one <= 1)).all()
    assert (swapped(0 * differences, owner, permutations=permutations, seed=seed) == 1).all()


@pytest.mark.parametrize("permutations", [1 << 10, 999])
def test_p_values_are_uniform_where_models_are_equally_good(permutations: int) -> None:
    rng = np.random.default_rng(5)
    owner = np.repeat(np.arange(10), 3)
    found = []
    for seed in range(20):  # of 50 targets each
        errors = (
            rng.normal(0, 1, (2, 30, 50)) + rng.normal(0, 1, (1, 10, 50))[:, owner]
        )  # hard speakers are hard for both
        noise = rng.normal(0, 0.5, (10, 50))[owner]  # and each model has speakers that it does not like
        found.append(swapped(errors[0] - errors[1] + noise, owner, permutations=permutations, seed=seed)[:-1])
    p = np.concatenate(found)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    for level in (0.05, 0.1, 0.5):
        assert (p <= level).mean() == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / len(p)))


def test_holm_by_hand() -> None:
    # Sorted: 0.005 x 4 = 0.02; 0.01 x 3 = 0.03; 0.03 x 2 = 0.06; 0.04 x 1 = 0.04, but no less than the one before.
    assert holm([0.01, 0.04, None, 0.03, 0.005]) == pytest.approx([0.03, 0.06, None, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([None]) == [None]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_corrects_upwards_in_the_same_order(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(p <= c <= min(1.0, p * len(p_values)) for p, c in zip(p_values, corrected, strict=True))
    assert max(corrected) <= 1
    assert [corrected[i] for i in np.argsort(p_values, kind="stable")] == sorted(corrected)


def test_what_so_few_speakers_can_tell() -> None:
    truth = np.ones((40, 40))
    eight = describe("speakers", np.arange(40) % 8, truth, 10_000)
    assert eight.exact
    assert (eight.permutations, eight.units, eight.smallest_p) == (128, 8, 2 / 256)
    assert eight.smallest_corrected == 40 * 2 / 256
    forty = describe("clips", np.arange(40), truth, 999)
    assert not forty.exact
    assert (forty.permutations, forty.smallest_p) == (999, 0.001)
    truth[:20] = np.nan
    assert describe("clips", np.arange(40), truth, 999).units == 20


def test_the_mean_is_swapped_by_everybody_who_has_any_score() -> None:
    truth = np.full((8, 2), np.nan)
    truth[:4, 0] = truth[4:, 1] = 1.0  # no emotion has more than four speakers, the mean has eight
    found = describe("speakers", np.arange(8), truth, 10_000)
    assert (found.units, found.smallest_p, found.smallest_corrected) == (8, 2 / 256, 2 * 2 / 16)
    p = swapped(np.where(np.isnan(truth), np.nan, 0.5), np.arange(8), permutations=10_000, seed=0)
    assert p.tolist() == [2 / 16, 2 / 16, 2 / 256]
    assert found.confirms(0.05)
    assert not found.confirms_emotions(0.05)


def test_the_smallest_p_value_is_reached() -> None:
    for units, permutations in ((6, 10_000), (30, 999)):
        owner = np.arange(units)
        p = swapped(np.ones((units, 1)), owner, permutations=permutations, seed=0)
        assert p[0] == pytest.approx(describe("clips", owner, np.ones((units, 1)), permutations).smallest_p)
