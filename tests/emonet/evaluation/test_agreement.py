"""Agreement of raters: published worked examples, plain arithmetic, other people's library, what is undefined."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from emonet.evaluation import rater_agreement

NONE = np.nan
# Krippendorff (2011), section C: four observers, twelve units, missing data. Gwet's handbook takes the same ratings.
OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NONE, NONE, NONE],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NONE, 3],
        [NONE, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NONE],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NONE],
    ]
).T
FIVE = (1, 2, 3, 4, 5)


def ratings(clips: int = 60, raters: int = 6, missing: float = 0.5, seed: int = 3) -> np.ndarray:
    """Ratings 0, 1, 2 that share something, many of them missing."""
    chance = np.random.default_rng(seed)
    heard = chance.normal(size=(clips, 1)) + chance.normal(size=(clips, raters))
    levels = np.digitize(heard, [-0.3, 1.0]).astype(float)
    levels[chance.random(levels.shape) < missing] = np.nan
    return levels


def test_krippendorffs_example() -> None:
    assert rater_agreement(OBSERVERS, levels=FIVE, resamples=10).krippendorff.value == pytest.approx(0.815, abs=5e-4)


def test_gwets_example() -> None:
    """AC2 of the same ratings with ordinal weights, as irrCAC of Gwet and its port to Python give it."""
    assert rater_agreement(OBSERVERS, levels=FIVE, resamples=10).gwet.value == pytest.approx(0.899, abs=5e-4)


def test_cronbachs_example() -> None:
    """Variances 5/3, 11/12 and 5/3, of the sums 12.25: 3/2 (1 - 4.25 / 12.25)."""
    three = np.array([[4, 3, 5, 2], [5, 4, 5, 3], [4, 3, 5, 2]], float).T
    assert rater_agreement(three, levels=FIVE, resamples=10).cronbach.value == pytest.approx(1.5 * (1 - 4.25 / 12.25))


def test_cronbach_of_missing_raters_is_that_of_pairwise_covariances() -> None:
    levels = ratings()
    table = pd.DataFrame(levels).cov().to_numpy()
    total = table.sum()
    expected = 6 / 5 * (1 - np.trace(table) / total)
    assert rater_agreement(levels, levels=(0, 1, 2), resamples=1).cronbach.value == pytest.approx(expected)


def test_cronbach_takes_raters_that_never_met() -> None:
    """Two pairs of raters who share no clip: the mean covariance is over those who do."""
    levels = np.full((40, 4), np.nan)
    levels[:20, :2], levels[20:, 2:] = ratings(20, 2, 0.0, 1), ratings(20, 2, 0.0, 2)
    first, second = np.cov(levels[:20, :2].T), np.cov(levels[20:, 2:].T)
    v = (np.trace(first) + np.trace(second)) / 4
    c = (first[0, 1] + second[0, 1]) / 2
    found = rater_agreement(levels, levels=(0, 1, 2), resamples=5).cronbach.value
    assert found == pytest.approx(4 * c / (v + 3 * c))


@pytest.mark.parametrize("missing", [0.0, 0.3, 0.6])
def test_krippendorff_is_that_of_its_library(missing: float) -> None:
    library = pytest.importorskip("krippendorff", reason="krippendorff (GPL-3) is not installed")
    levels = ratings(missing=missing)
    expected = library.alpha(levels.T, level_of_measurement="ordinal")
    assert rater_agreement(levels, levels=(0, 1, 2), resamples=1).krippendorff.value == pytest.approx(expected)


@pytest.mark.parametrize("missing", [0.0, 0.3, 0.6])
def test_krippendorff_is_that_of_all_pairs(missing: float) -> None:
    """By its definition: disagreement within clips over that of all ratings of clips with two or more."""
    clips = [row[~np.isnan(row)] for row in ratings(missing=missing)]
    clips = [row for row in clips if len(row) > 1]
    everything = np.concatenate(clips)
    times = {level: int((everything == level).sum()) for level in (0, 1, 2)}

    def apart(one: float, other: float) -> float:
        low, high = sorted((one, other))
        return (sum(times[level] for level in times if low <= level <= high) - (times[low] + times[high]) / 2) ** 2

    def within(row: np.ndarray) -> float:
        return sum(apart(a, b) for i, a in enumerate(row) for j, b in enumerate(row) if i != j)

    n = len(everything)
    observed = sum(within(row) / (len(row) - 1) for row in clips) / n
    expected = within(everything) / (n * (n - 1))
    found = rater_agreement(ratings(missing=missing), levels=(0, 1, 2), resamples=1).krippendorff.value
    assert found == pytest.approx(1 - observed / expected)


@pytest.mark.parametrize("missing", [0.0, 0.3, 0.6])
def test_gwet_is_that_of_all_pairs(missing: float) -> None:
    """By its definition, of three levels: neighbours agree by 2/3, and the ends not at all."""
    near = {0: 1.0, 1: 2 / 3, 2: 0.0}
    clips = [row[~np.isnan(row)] for row in ratings(missing=missing)]
    agreeing = [
        np.mean([near[abs(int(a - b))] for i, a in enumerate(row) for j, b in enumerate(row) if i != j])
        for row in clips
        if len(row) > 1
    ]
    usual = [np.mean([(row == level).mean() for row in clips if len(row)]) for level in (0, 1, 2)]
    chance = (3 + 4 * 2 / 3) / 6 * sum(share * (1 - share) for share in usual)
    found = rater_agreement(ratings(missing=missing), levels=(0, 1, 2), resamples=1).gwet.value
    assert found == pytest.approx((np.mean(agreeing) - chance) / (1 - chance))


def test_who_is_who_does_not_matter() -> None:
    levels, chance = ratings(), np.random.default_rng(1)
    mixed = levels[chance.permutation(len(levels))][:, chance.permutation(6)]
    one, other = (rater_agreement(each, levels=(0, 1, 2), resamples=1) for each in (levels, mixed))
    for name in ("cronbach", "krippendorff", "gwet"):
        assert getattr(one, name).value == pytest.approx(getattr(other, name).value)


def test_intervals_are_of_resampled_clips() -> None:
    """Each end is what the coefficients of clips that are drawn one by one give."""
    levels = ratings(40, missing=0.3)
    assert not np.isnan(levels).all(1).any()
    found = rater_agreement(levels, levels=(0, 1, 2), resamples=30, seed=42)
    counts = np.random.default_rng(42).multinomial(len(levels), np.full(len(levels), 1 / len(levels)), size=30)
    drawn = [rater_agreement(np.repeat(levels, times, 0), levels=(0, 1, 2), resamples=1) for times in counts]
    for name in ("cronbach", "krippendorff", "gwet"):
        one, each = getattr(found, name), [getattr(sample, name).value for sample in drawn]
        assert (one.low, one.high) == pytest.approx(tuple(np.percentile(each, [2.5, 97.5])))
        assert one.low < one.value < one.high


def test_the_same_seed_gives_the_same_intervals() -> None:
    first, again, other = (
        rater_agreement(ratings(), levels=(0, 1, 2), resamples=50, seed=seed) for seed in (42, 42, 7)
    )
    assert first == again != other


def test_what_is_undefined_has_no_value() -> None:
    same = rater_agreement(np.ones((5, 3)), levels=(0, 1, 2), resamples=20)
    assert (same.cronbach.value, same.krippendorff.value, same.gwet.value) == (None, None, 1.0)
    alone = rater_agreement(np.array([[0.0], [1.0], [2.0]]), levels=(0, 1, 2), resamples=20)
    assert (alone.cronbach.value, alone.krippendorff.value, alone.gwet.value) == (None, None, None)
    nobody = rater_agreement(np.full((3, 2), np.nan), levels=(0, 1, 2), resamples=20)
    assert (nobody.clips, nobody.ratings, nobody.gwet.value) == (0, 0, None)


def test_counts_leave_out_who_rated_nothing() -> None:
    found = rater_agreement(np.array([[0, 1, NONE], [2, 2, NONE], [NONE] * 3]), levels=(0, 1, 2), resamples=5)
    assert (found.clips, found.raters, found.ratings) == (2, 2, 4)


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="none of the levels"):
        rater_agreement(np.array([[0.0, 3.0]]), levels=(0, 1, 2))
