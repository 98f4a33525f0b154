"""Calibration bins (reliability): what was given where a model predicts 0, 1, 2, and so on."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from pydantic import Field

from emonet.schema import Schema

BINS = 8  # of half a point each on a scale from 0 to 4


class ReliabilityBin(Schema):
    """Scores that were predicted alike."""

    low: float
    """Where the bin begins (in units of the score); the first one also holds what is predicted below it."""
    high: float
    """Where it ends; the last one also holds what is predicted above it."""
    predicted: float
    """Mean predicted score."""
    given: float
    """Mean given score."""
    count: int = Field(ge=1)
    """Scores in the bin (count)."""


class Reliability(Schema):
    """Given scores by predicted score, over all emotions together."""

    slope: float | None
    """Of the line that predicts given scores from predicted ones; 1 is right, below 1 predictions are too spread out.
    None where all predictions are the same."""
    intercept: float | None
    """Of the same line, in units of the score; 0 is right."""
    bins: tuple[ReliabilityBin, ...]
    """Those that hold anything, in order."""


def reliability(
    truth: Float[np.ndarray, "clips targets"],
    predictions: Float[np.ndarray, "clips targets"],
    *,
    scale: tuple[float, float],
    bins: int = BINS,
) -> Reliability:
    """Compare given with predicted scores by bins of equal width.

    Args:
        truth: scores, NaN where nobody rated.
        predictions: of the same clips and targets.
        scale: lowest and highest score.
        bins: how many (count).
    """
    rated = ~np.isnan(truth)
    x, y = predictions[rated].astype(np.float64), truth[rated].astype(np.float64)
    edges = np.linspace(*scale, bins + 1)
    place = np.clip(np.digitize(x, edges) - 1, 0, bins - 1)
    found = tuple(
        ReliabilityBin(
            low=float(edges[number]),
            high=float(edges[number + 1]),
            predicted=float(x[place == number].mean()),
            given=float(y[place == number].mean()),
            count=int((place == number).sum()),
        )
        for number in np.unique(place)
    )
    if len(x) == 0 or np.ptp(x) == 0:
        return Reliability(slope=None, intercept=None, bins=found)
    slope = float(np.cov(x, y, bias=True)[0, 1] / x.var())
    return Reliability(slope=slope, intercept=float(y.mean() - slope * x.mean()), bins=found)
