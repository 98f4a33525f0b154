"""Figures over folds: the mean of the folds' own, as EmoBox reports it, with its interval, beside that of all clips.

Folds share nothing but training clips, so speakers are what is resampled, of all folds together. A fold counts in a
resample's mean by the share of its speakers that were drawn: where folds are single speakers, those are drawn as such.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, Int

from emonet.configs import EvaluationConfig
from emonet.evaluation.bootstrap import resample
from emonet.evaluation.classification import CLASS_METRICS, ClassMetricName, ClassScores, class_metrics
from emonet.evaluation.metrics import weighted_metrics
from emonet.evaluation.results import METRIC_NAMES, Estimate, MetricName, Scores
from emonet.schema import Schema
from emonet.targets import NO_CLASS


class FoldEstimate(Schema):
    """A figure over folds; None where it is undefined."""

    mean: float | None
    """Unweighted mean over the folds for which it is defined."""
    low: float | None
    """Lower end of the mean's bootstrap interval."""
    high: float | None
    """Upper end of the mean's bootstrap interval."""
    per_fold: tuple[float | None, ...]
    """In the order of the folds."""
    pooled: Estimate
    """On the test clips of all folds together."""

    @property
    def estimate(self) -> Estimate:
        """The mean over folds with its interval."""
        return Estimate(value=self.mean, low=self.low, high=self.high)


def fold_scores(
    truth: Float[np.ndarray, "clips targets"],
    predictions: Float[np.ndarray, "clips targets"],
    pooled: Scores,
    *,
    folds: Int[np.ndarray, " clips"],
    speakers: Sequence[str],
    config: EvaluationConfig,
    seed: int,
) -> dict[MetricName, FoldEstimate]:
    """Each metric's mean over targets, fold by fold.

    Args:
        truth: test scores of all folds, NaN where nobody rated.
        predictions: of the same clips and targets, each by the experts of its own fold.
        pooled: their figures on all clips.
        folds: number of each clip's fold, from 0.
        speakers: who speaks, one per clip.
        config: resamples and coverage.
        seed: of the resamples.
    """
    (counts, owner), number = _drawn(speakers, config, seed), int(folds.max()) + 1
    found: dict[MetricName, list[np.ndarray]] = {name: [] for name in METRIC_NAMES}
    for fold in range(number):
        rows = np.flatnonzero(folds == fold)
        metrics = weighted_metrics(truth[rows], predictions[rows], counts, owner[rows])
        for name, values in metrics.items():
            found[name].append(_mean(values, np.ones(values.shape[1])))
    shares = _shares(counts, owner, folds, number)
    return {
        name: _estimated(np.stack(values, 1), shares, pooled.of(name).mean, config) for name, values in found.items()
    }


def fold_classes(
    given: Int[np.ndarray, " clips"],
    predicted: Int[np.ndarray, " clips"],
    pooled: ClassScores,
    *,
    folds: Int[np.ndarray, " clips"],
    speakers: Sequence[str],
    config: EvaluationConfig,
    seed: int,
) -> dict[ClassMetricName, FoldEstimate]:
    """UA, WA and macro F1, fold by fold; a class that a fold lacks is left out of that fold's means.

    Args:
        given: position of each clip's class, or `NO_CLASS`; at least one clip has both.
        predicted: of the same clips, each by the experts of its own fold.
        pooled: their figures on all clips.
        folds: number of each clip's fold, from 0.
        speakers: who speaks, one per clip.
        config: resamples and coverage.
        seed: of the resamples.
    """
    known = np.flatnonzero((given != NO_CLASS) & (predicted != NO_CLASS))
    counts, owner = _drawn(np.asarray(speakers)[known].tolist(), config, seed)
    classes, where, number = len(pooled.classes), folds[known], int(folds.max()) + 1
    cells, size = given[known] * classes + predicted[known], classes * classes
    found: dict[ClassMetricName, list[np.ndarray]] = {name: [] for name in CLASS_METRICS}
    for fold in range(number):
        rows = np.flatnonzero(where == fold)
        by_unit = np.bincount(owner[rows] * size + cells[rows], minlength=counts.shape[1] * size).reshape(-1, size)
        for name, values in class_metrics((counts @ by_unit).reshape(-1, classes, classes))[1].items():
            found[name].append(values)
    shares = _shares(counts, owner, where, number)
    return {name: _estimated(np.stack(values, 1), shares, pooled.of(name), config) for name, values in found.items()}


def _drawn(
    speakers: Sequence[str], config: EvaluationConfig, seed: int
) -> tuple[Float64[np.ndarray, "draws units"], Int[np.ndarray, " clips"]]:
    """How often each speaker (or clip) counts, first once each and then in every resample; its number of each clip."""
    counts, owner, _ = resample(speakers, config.resamples, seed)
    return np.concatenate([np.ones((1, counts.shape[1])), counts]), owner


def _shares(
    counts: Float64[np.ndarray, "draws units"],
    owner: Int[np.ndarray, " clips"],
    folds: Int[np.ndarray, " clips"],
    number: int,
) -> Float64[np.ndarray, "draws folds"]:
    """How often each fold's speakers (or clips) were drawn in the mean; 1 on all clips."""
    shares = []
    for fold in range(number):
        units = np.unique(owner[folds == fold])
        shares.append(counts[:, units].mean(1) if len(units) else np.zeros(len(counts)))
    return np.stack(shares, 1)


def _estimated(
    values: Float64[np.ndarray, "draws folds"],
    shares: Float64[np.ndarray, "draws folds"],
    pooled: Estimate,
    config: EvaluationConfig,
) -> FoldEstimate:
    means = _mean(values, shares)
    drawn, share = means[1:][np.isfinite(means[1:])], 100 * (1 - config.confidence) / 2
    # A single speaker, or clip, has no interval: `pooled` knows.
    has = len(drawn) and pooled.low is not None
    low, high = np.percentile(drawn, [share, 100 - share]) if has else (np.nan, np.nan)
    mean, low, high, *each = (float(one) if np.isfinite(one) else None for one in (means[0], low, high, *values[0]))
    return FoldEstimate(mean=mean, low=low, high=high, per_fold=tuple(each), pooled=pooled)


def _mean(
    values: Float64[np.ndarray, "draws parts"], weights: Float64[np.ndarray, "..."]
) -> Float64[np.ndarray, " draws"]:
    """Weighted mean over the parts for which it is defined."""
    counted = np.where(np.isfinite(values), weights, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: np.ndarray = (np.where(np.isfinite(values), values, 0.0) * counted).sum(1) / counted.sum(1)
    return mean
