"""Agreement of raters: Cronbach's alpha, Krippendorff's ordinal alpha and Gwet's AC2, with bootstrap intervals.

Any clip may miss any rater. Cronbach's alpha (1951) is made of the means of variances and covariances, each over the
clips that its raters share, which is the usual formula where nothing is missing. Krippendorff's alpha is that of
"Computing Krippendorff's alpha-reliability" (2011) with the ordinal metric; AC2 is that of Gwet's "Handbook of
inter-rater reliability" (2014) with ordinal weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from emonet.evaluation.results import Estimate
from emonet.schema import Schema

_BLOCK = 1 << 23  # numbers held at once per array: 64 MiB of float64

Coefficient = Callable[[Float64[np.ndarray, "resamples clips"]], Float64[np.ndarray, " resamples"]]


class RaterAgreement(Schema):
    """How far raters agree; each coefficient is 1 where they always do."""

    cronbach: Estimate
    """Cronbach's alpha: consistency of the sum over raters; none where ratings do not vary or no raters share clips."""
    krippendorff: Estimate
    """Krippendorff's ordinal alpha: 0 is agreement by chance; none where all ratings are the same."""
    gwet: Estimate
    """Gwet's AC2 with ordinal weights: less troubled by levels that are rare."""
    clips: int = Field(ge=0)
    """Clips with a rating (count)."""
    raters: int = Field(ge=0)
    """Raters with a rating (count)."""
    ratings: int = Field(ge=0)
    """Ratings (count)."""


def rater_agreement(
    ratings: Float64[np.ndarray, "clips raters"],
    *,
    levels: Sequence[float | int],
    resamples: int = 1000,
    seed: int = 42,
    confidence: float = 0.95,
) -> RaterAgreement:
    """All three coefficients, with percentile intervals over resamples of clips.

    Args:
        ratings: NaN where a rater did not rate a clip.
        levels: all that could be given, from the lowest to the highest, also those that nobody gave.
        resamples: of the clips (count).
        seed: of the resamples.
        confidence: coverage of the intervals (0 to 1).

    Raises:
        ValueError: if a rating is none of the levels.
    """
    given = ~np.isnan(ratings)
    rated = ratings[given.any(1)]
    if not np.isin(rated[~np.isnan(rated)], levels).all():
        raise ValueError("a rating is none of the levels")
    counts = np.stack([(rated == level).sum(1) for level in levels], 1).astype(np.float64)
    coefficients = (_cronbach(rated), _krippendorff(counts), _gwet(counts))
    drawn = _draw(len(rated), resamples, seed) if len(rated) > 1 else np.empty((0, len(rated)))
    weights = np.concatenate([np.ones((1, len(rated))), drawn])
    width = max(rated.shape[1], len(levels)) ** 2 + len(rated)
    step = max(1, _BLOCK // width)
    found = [
        np.concatenate([one(weights[start : start + step]) for start in range(0, len(weights), step)])
        for one in coefficients
    ]
    cronbach, krippendorff, gwet = (_estimate(values, confidence) for values in found)
    return RaterAgreement(
        cronbach=cronbach,
        krippendorff=krippendorff,
        gwet=gwet,
        clips=len(rated),
        raters=int(given.any(0).sum()),
        ratings=int(given.sum()),
    )


def _draw(clips: int, resamples: int, seed: int) -> Float64[np.ndarray, "resamples clips"]:
    counts = np.random.default_rng(seed).multinomial(clips, np.full(clips, 1 / clips), size=resamples)
    return counts.astype(np.float64)


def _estimate(values: Float64[np.ndarray, " draws"], confidence: float) -> Estimate:
    """The first value with percentiles of the others, of those where it is defined."""
    point, spread = values[0], values[1:][~np.isnan(values[1:])]
    if np.isnan(point):
        return Estimate(value=None, low=None, high=None)
    if not len(spread):
        return Estimate(value=float(point), low=None, high=None)
    share = 100 * (1 - confidence) / 2
    low, high = np.percentile(spread, [share, 100 - share])
    return Estimate(value=float(point), low=float(low), high=float(high))


def _cronbach(ratings: Float64[np.ndarray, "clips raters"]) -> Coefficient:
    """Give k c / (v + (k - 1) c) of k raters: v their mean variance, c the mean covariance of two of them."""
    given = (~np.isnan(ratings)).astype(np.float64)
    raters = ratings.shape[1]
    centre = float(np.nanmean(ratings)) if given.any() else 0.0  # so that little is lost in the differences below
    values = np.nan_to_num(ratings - centre)
    pairs = [
        np.einsum("cj,ck->cjk", one, other).reshape(len(ratings), raters * raters)
        for one, other in ((given, given), (values, given), (values, values))
    ]

    def coefficient(weights: Float64[np.ndarray, "resamples clips"]) -> Float64[np.ndarray, " resamples"]:
        shared, sums, products = ((weights @ pair).reshape(-1, raters, raters) for pair in pairs)
        with np.errstate(invalid="ignore", divide="ignore"):
            covariance = (products - sums * sums.transpose(0, 2, 1) / shared) / (shared - 1)
        covariance[shared < 2] = np.nan
        own = np.eye(raters, dtype=bool)
        variances, between = covariance[:, own], covariance[:, ~own]
        k, v, c = (~np.isnan(variances)).sum(1), _mean(variances), _mean(between)
        total = v + (k - 1) * c
        alpha: np.ndarray = np.full(len(weights), np.nan)
        defined = (k > 1) & (total > 1e-12)  # NaN is not; of a total that is not positive nothing can be said
        alpha[defined] = (k * c)[defined] / total[defined]
        return alpha

    return coefficient


def _krippendorff(counts: Float64[np.ndarray, "clips levels"]) -> Coefficient:
    """Give 1 - observed / expected disagreement, out of coincidences of levels on clips with two ratings or more."""
    given = counts.sum(1)
    paired = given >= 2
    levels = counts.shape[1]
    own = np.eye(levels)
    both = np.einsum("cv,cw->cvw", counts, counts) - counts[:, :, None] * own
    coincidences = (both * (paired / np.maximum(given - 1, 1))[:, None, None]).reshape(len(counts), levels**2)

    def coefficient(weights: Float64[np.ndarray, "resamples clips"]) -> Float64[np.ndarray, " resamples"]:
        observed = (weights @ coincidences).reshape(-1, levels, levels)
        each = observed.sum(1)
        total = each.sum(1)
        middle = np.cumsum(each, 1) - each / 2  # two levels are as far apart as there are ratings between them
        apart = np.square(middle[:, :, None] - middle[:, None, :])
        expected = np.einsum("rv,rw,rvw->r", each, each, apart)
        with np.errstate(invalid="ignore", divide="ignore"):
            alpha: np.ndarray = 1 - (total - 1) * np.einsum("rvw,rvw->r", observed, apart) / expected
        alpha[expected <= 0] = np.nan
        return alpha

    return coefficient


def _gwet(counts: Float64[np.ndarray, "clips levels"]) -> Coefficient:
    """Give (agreement - chance) / (1 - chance), both weighted by how near two levels are in their order."""
    given = counts.sum(1)
    paired = (given >= 2).astype(np.float64)
    levels = counts.shape[1]
    steps = np.abs(np.subtract.outer(np.arange(levels), np.arange(levels)))
    near = 1 - steps * (steps + 1) / max(1, levels * (levels - 1))
    agreeing = paired * (counts * (counts @ near - 1)).sum(1) / np.maximum(given * (given - 1), 1)
    shares = counts / np.maximum(given, 1)[:, None]

    def coefficient(weights: Float64[np.ndarray, "resamples clips"]) -> Float64[np.ndarray, " resamples"]:
        if levels < 2:
            return np.full(len(weights), np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            agreement = weights @ agreeing / (weights @ paired)
            usual = weights @ shares / weights.sum(1, keepdims=True)
            chance = near.sum() * (usual * (1 - usual)).sum(1) / (levels * (levels - 1))
            coefficients: np.ndarray = (agreement - chance) / (1 - chance)
        return coefficients

    return coefficient


def _mean(values: Float64[np.ndarray, "resamples figures"]) -> Float64[np.ndarray, " resamples"]:
    """Of those that are defined; NaN where none is."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: np.ndarray = np.nansum(values, 1) / defined.sum(1)
    return mean
