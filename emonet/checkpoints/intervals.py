"""Prediction intervals of ensembles: the spread of their members, scaled on validation clips to a stated coverage."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64
from pydantic import Field, NonNegativeFloat

from emonet.schema import Schema

COVERAGE = 0.9
"""Share of true scores that intervals are to hold."""


class Intervals(Schema):
    """How far on either side of a score its interval reaches."""

    coverage: float = Field(COVERAGE, gt=0, lt=1)
    """Share of the true scores of validation clips that lie within (0 to 1)."""
    factors: dict[str, NonNegativeFloat]
    """Target id -> half-width of the interval as a multiple of the members' spread; too few clips give none."""

    def half_widths(
        self, spread: Float[np.ndarray, "clips targets"], targets: Sequence[str]
    ) -> Float64[np.ndarray, "clips targets"]:
        """Half-widths in units of the score; NaN for targets without a factor.

        Args:
            spread: deviation over the members of each target, shape (clips, targets).
            targets: ids, one per column.
        """
        found: Float64[np.ndarray, "clips targets"] = spread * np.array(
            [self.factors.get(target, math.nan) for target in targets]
        )
        return found


def fit_intervals(
    predictions: Float[np.ndarray, "clips targets"],
    spread: Float[np.ndarray, "clips targets"],
    truth: Float[np.ndarray, "clips targets"],
    targets: Sequence[str],
    coverage: float = COVERAGE,
) -> Intervals:
    """One factor per target: the quantile of |error| / spread that split conformal prediction takes.

    Locally weighted, as Lei et al. 2018 (arXiv:1604.04173), section 5.2. Of fewer than 9 rated clips there is no such
    quantile for 90 %.

    Args:
        predictions: scores of clips that no expert was trained on, as they are served, shape (clips, targets).
        spread: deviation over the members, likewise.
        truth: true scores; NaN where nobody rated.
        targets: ids, one per column.
        coverage: share of true scores that intervals are to hold (0 to 1).
    """
    factors = {}
    for column, target in enumerate(targets):
        rated = ~np.isnan(truth[:, column])
        errors = np.abs(predictions[rated, column].astype(np.float64) - truth[rated, column])
        wide = spread[rated, column].astype(np.float64)
        ratios = np.sort(np.divide(errors, wide, out=np.where(errors > 0, np.inf, 0.0), where=wide > 0))
        rank = math.ceil((len(ratios) + 1) * coverage)
        if rank <= len(ratios) and math.isfinite(ratios[rank - 1]):
            factors[target] = float(ratios[rank - 1])
    return Intervals(coverage=coverage, factors=factors)
