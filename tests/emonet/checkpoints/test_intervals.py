from __future__ import annotations

import numpy as np
import pytest

from emonet.checkpoints import fit_intervals

TARGETS = ("anger", "fear")


def clips(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions, spread and truth: errors are three times as wide as the spread for anger, half as wide for fear."""
    rng = np.random.default_rng(seed)
    spread = rng.uniform(0.1, 1, (count, 2))
    predictions = rng.uniform(0, 4, (count, 2))
    return predictions, spread, predictions + rng.normal(0, 1, (count, 2)) * spread * [3, 0.5]


def test_intervals_hold_the_stated_share_of_other_clips() -> None:
    fitted = fit_intervals(*clips(4000, 0), TARGETS)
    predictions, spread, truth = clips(4000, 1)
    within = np.abs(predictions - truth) <= fitted.half_widths(spread, TARGETS)
    assert within.mean(0) == pytest.approx([0.9, 0.9], abs=0.03)
    assert fitted.factors["anger"] == pytest.approx(3 * 1.645, rel=0.05)
    assert fitted.factors["fear"] == pytest.approx(0.5 * 1.645, rel=0.05)


def test_the_factor_is_the_conformal_quantile() -> None:
    """Of 10 clips 90 % need the 10th of 11 places, the largest."""
    errors = np.arange(1, 11, dtype=float)[:, None]
    fitted = fit_intervals(np.zeros((10, 1)), np.full((10, 1), 2.0), errors, ["anger"])
    assert fitted.factors == {"anger": 5.0}
    assert fit_intervals(np.zeros((10, 1)), np.full((10, 1), 2.0), errors, ["anger"], 0.5).factors == {"anger": 3.0}


def test_there_is_no_factor_where_clips_do_not_tell_it() -> None:
    predictions, spread, truth = clips(9, 0)
    assert set(fit_intervals(predictions, spread, truth, TARGETS).factors) == {"anger", "fear"}
    truth[3, 0] = np.nan  # eight are left
    spread[:, 1] = 0  # members that agree, and are wrong
    fitted = fit_intervals(predictions, spread, truth, TARGETS)
    assert fitted.factors == {}
    assert np.isnan(fitted.half_widths(spread, TARGETS)).all()
    assert fit_intervals(truth, 0 * spread, truth, TARGETS).factors == {"fear": 0.0}, "and are right"
