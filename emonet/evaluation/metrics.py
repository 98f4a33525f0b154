"""Metrics of regression under weights of clips: MAE, RMSE, Pearson, Spearman and CCC, for many resamples at once.

CCC is the concordance correlation coefficient (Lin 1989): Pearson's, lowered where mean or spread of the predictions
are off. Conventions: a missing score is left out. Predictions that are all the same order nothing: their correlations
(CCC among them) are 0. Where the true scores are all the same there is nothing to order: correlations are undefined
(None) and left out of means.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int

from emonet.evaluation.results import METRIC_NAMES, MetricName

_BLOCK = 1 << 21  # weights (clips x resamples) worked on at once: 16 MiB of float64


def weighted_metrics(
    truth: Float[np.ndarray, "clips targets"],
    predictions: Float[np.ndarray, "clips targets"],
    weights: Float64[np.ndarray, "resamples units"],
    owner: Int[np.ndarray, " clips"] | None = None,
) -> dict[MetricName, Float64[np.ndarray, "resamples targets"]]:
    """All metrics under every row of weights; NaN where undefined.

    Args:
        truth: scores, NaN where nobody rated.
        predictions: of the same clips and targets.
        weights: how often each unit counts; clips times resamples are never held at once.
        owner: the unit's number of each clip; None if each clip is one.
    """
    results = {name: np.full((len(weights), truth.shape[1]), np.nan) for name in METRIC_NAMES}
    step = max(1, _BLOCK // max(1, len(truth)))
    for column in range(truth.shape[1]):
        rows = np.flatnonzero(~np.isnan(truth[:, column]))
        if len(rows) == 0:
            continue
        x, y = predictions[rows, column].astype(np.float64), truth[rows, column].astype(np.float64)
        units = rows if owner is None else owner[rows]
        for start in range(0, len(weights), step):
            block = slice(start, start + step)
            for name, values in _column(x, y, weights[block][:, units]).items():
                results[name][block, column] = values
    return results


def _column(
    x: Float64[np.ndarray, " clips"], y: Float64[np.ndarray, " clips"], weights: Float64[np.ndarray, "resamples clips"]
) -> dict[MetricName, Float64[np.ndarray, " resamples"]]:
    total = weights.sum(1)
    ranks_x, ranks_y = _ranks(x, weights), _ranks(y, weights)
    spearman, flat_x, flat_y = _rank_correlation(ranks_x, ranks_y, weights, total)
    pearson, concordance = _correlations(x, y, weights, total)
    with np.errstate(invalid="ignore", divide="ignore"):
        mae = weights @ np.abs(x - y) / total
        rmse = np.sqrt(weights @ np.square(x - y) / total)
    for correlation in (pearson, spearman, concordance):
        correlation[flat_x | np.isnan(correlation)] = 0.0  # NaN: they differ by less than arithmetic resolves
        correlation[flat_y | (total == 0)] = np.nan
    return {"mae": mae, "rmse": rmse, "pearson": pearson, "spearman": spearman, "ccc": concordance}


def _ranks(
    values: Float64[np.ndarray, " clips"], weights: Float64[np.ndarray, "resamples clips"]
) -> Float64[np.ndarray, "resamples clips"]:
    """Mid-ranks in each resample (less one half): the weight below a value plus half the weight at it."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    group: Int[np.ndarray, " clips"] = np.empty(len(values), np.int64)
    group[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(values))))
    at = np.add.reduceat(weights[:, order], starts, axis=1)
    middle = np.cumsum(at, 1) - at / 2
    return middle[:, group]


def _rank_correlation(
    x: Float64[np.ndarray, "resamples clips"],
    y: Float64[np.ndarray, "resamples clips"],
    weights: Float64[np.ndarray, "resamples clips"],
    total: Float64[np.ndarray, " resamples"],
) -> tuple[Float64[np.ndarray, " resamples"], np.ndarray, np.ndarray]:
    """Correlation of ranks, and whether each side has one rank only (exact: ranks are multiples of a half)."""
    middle = total[:, None] / 2  # the mean of mid-ranks, whatever the ties
    x, y = x - middle, y - middle
    xx, yy, xy = (np.einsum("rc,rc,rc->r", weights, a, b) for a, b in ((x, x), (y, y), (x, y)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(xy / np.sqrt(xx * yy), -1, 1), xx == 0, yy == 0


def _correlations(
    x: Float64[np.ndarray, " clips"],
    y: Float64[np.ndarray, " clips"],
    weights: Float64[np.ndarray, "resamples clips"],
    total: Float64[np.ndarray, " resamples"],
) -> tuple[Float64[np.ndarray, " resamples"], Float64[np.ndarray, " resamples"]]:
    """Weighted Pearson correlation and CCC in each resample."""
    apart = x.mean() - y.mean()
    x, y = x - x.mean(), y - y.mean()  # centred, so that little is lost in the differences below
    with np.errstate(invalid="ignore", divide="ignore"):
        mx, my = weights @ x / total, weights @ y / total
        xx = weights @ np.square(x) / total - mx * mx
        yy = weights @ np.square(y) / total - my * my
        xy = weights @ (x * y) / total - mx * my
        pearson: np.ndarray = np.clip(xy / np.sqrt(xx * yy), -1, 1)
        concordance: np.ndarray = np.clip(2 * xy / (xx + yy + np.square(mx - my + apart)), -1, 1)
    return pearson, concordance
