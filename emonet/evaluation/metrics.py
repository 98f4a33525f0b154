"""Metrics of regression under weights of clips: MAE, RMSE, Pearson, Spearman and CCC, for many resamples at once.

CCC is the concordance correlation coefficient (Lin 1989): Pearson's, lowered where mean or spread of the predictions
are off. Conventions: a missing score is left out. Predictions that are all the same order nothing: their correlations
(CCC among them) are 0. Where the true scores are all the same there is nothing to order: correlations are undefined
(None) and left out of means.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float64, Int

from emonet.evaluation.results import METRIC_NAMES, MetricName

_BLOCK = 1 << 21  # weights (clips x resamples) worked on at once: 16 MiB of float64
_PREPARED = 1 << 22  # scores (clips x targets) that are ordered at once: 288 MiB at most, 72 bytes each


@runtime_checkable  # so that tests can check annotations at run time
class Weights(Protocol):
    """How often each unit counts, in rows of which a few are in memory at a time; the same ones each time."""

    def __len__(self) -> int: ...

    def blocks(self, rows: int) -> Iterator[tuple[slice, Float64[np.ndarray, "some units"]]]:
        """So many rows at a time."""
        ...


@dataclass(frozen=True)
class HeldWeights:
    """Weights that are in memory.

    Args:
        rows: all of them.
    """

    rows: Float64[np.ndarray, "rows units"]

    def __len__(self) -> int:
        return len(self.rows)

    def blocks(self, rows: int) -> Iterator[tuple[slice, Float64[np.ndarray, "some units"]]]:
        """Parts of them."""
        for start in range(0, len(self.rows), rows):
            part = slice(start, min(start + rows, len(self.rows)))
            yield part, self.rows[part]


def weighted_metrics(
    truth: Float[np.ndarray, "clips targets"],
    predictions: Float[np.ndarray, "clips targets"],
    weights: Float64[np.ndarray, "resamples units"] | Weights,
    owner: Int[np.ndarray, " clips"] | None = None,
) -> dict[MetricName, Float64[np.ndarray, "resamples targets"]]:
    """All metrics under every row of weights; NaN where undefined.

    Args:
        truth: scores, NaN where nobody rated.
        predictions: of the same clips and targets.
        weights: how often each unit counts; clips times resamples are never held at once.
        owner: the unit's number of each clip; None if each clip is one.
    """
    draws = HeldWeights(weights) if isinstance(weights, np.ndarray) else weights
    results = {name: np.full((len(draws), truth.shape[1]), np.nan) for name in METRIC_NAMES}
    step, together = (max(1, most // max(1, len(truth))) for most in (_BLOCK, _PREPARED))
    for first in range(0, truth.shape[1], together):
        columns = {}
        for column in range(first, min(first + together, truth.shape[1])):
            rows = np.flatnonzero(~np.isnan(truth[:, column]))
            if len(rows):
                units = rows if owner is None else owner[rows]
                columns[column] = _Column.of(predictions[rows, column], truth[rows, column], units)
        for block, some in draws.blocks(step):
            for column, prepared in columns.items():
                for name, values in prepared.metrics(some).items():
                    results[name][block, column] = values
    return results


@dataclass(frozen=True)
class _Column:
    """One target's predictions and scores, and their orders, which are the same in every resample."""

    x: Float64[np.ndarray, " clips"]
    y: Float64[np.ndarray, " clips"]
    order_x: _Order
    order_y: _Order
    units: Int[np.ndarray, " clips"]

    @classmethod
    def of(
        cls,
        predictions: Float[np.ndarray, " clips"],
        truth: Float[np.ndarray, " clips"],
        units: Int[np.ndarray, " clips"],
    ) -> _Column:
        x, y = predictions.astype(np.float64), truth.astype(np.float64)
        return cls(x, y, _Order.of(x), _Order.of(y), units)

    def metrics(
        self, drawn: Float64[np.ndarray, "resamples units"]
    ) -> dict[MetricName, Float64[np.ndarray, " resamples"]]:
        x, y, weights = self.x, self.y, drawn[:, self.units]
        total = weights.sum(1)
        ranks_x, ranks_y = self.order_x.ranks(weights), self.order_y.ranks(weights)
        spearman, flat_x, flat_y = _rank_correlation(ranks_x, ranks_y, weights, total)
        pearson, concordance = _correlations(x, y, weights, total)
        with np.errstate(invalid="ignore", divide="ignore"):
            mae = weights @ np.abs(x - y) / total
            rmse = np.sqrt(weights @ np.square(x - y) / total)
        for correlation in (pearson, spearman, concordance):
            correlation[flat_x | np.isnan(correlation)] = 0.0  # NaN: they differ by less than arithmetic resolves
            correlation[flat_y | (total == 0)] = np.nan
        return {"mae": mae, "rmse": rmse, "pearson": pearson, "spearman": spearman, "ccc": concordance}


@dataclass(frozen=True)
class _Order:
    """Clips in the order of their values, where each new value starts, and the number of each clip's value."""

    order: Int[np.ndarray, " clips"]
    starts: Int[np.ndarray, " values"]
    group: Int[np.ndarray, " clips"]

    @classmethod
    def of(cls, values: Float64[np.ndarray, " clips"]) -> _Order:
        order = np.argsort(values, kind="stable")
        ordered = values[order]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        group: Int[np.ndarray, " clips"] = np.empty(len(values), np.int64)
        group[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(values))))
        return cls(order, starts, group)

    def ranks(self, weights: Float64[np.ndarray, "resamples clips"]) -> Float64[np.ndarray, "resamples clips"]:
        """Mid-ranks in each resample (less one half): the weight below a value plus half the weight at it."""
        at = np.add.reduceat(weights[:, self.order], self.starts, axis=1)
        middle = np.cumsum(at, 1) - at / 2
        return middle[:, self.group]


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
