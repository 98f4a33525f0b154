from __future__ import annotations

import numpy as np
import pytest

from emonet.evaluation.calibration_bins import reliability

pytestmark = pytest.mark.numeric


def test_bins_and_line() -> None:
    rng = np.random.default_rng(0)
    predictions = rng.uniform(-0.5, 4.5, (200, 3)).astype(np.float32)
    truth = (0.5 + 0.8 * predictions + rng.normal(0, 0.2, predictions.shape)).astype(np.float32)
    truth[rng.random(truth.shape) < 0.1] = np.nan
    found = reliability(truth, predictions, bins=4, scale=(0.0, 4.0))
    x, y = predictions[~np.isnan(truth)].astype(float), truth[~np.isnan(truth)].astype(float)
    slope, intercept = np.polyfit(x, y, 1)
    assert (found.slope, found.intercept) == (pytest.approx(slope), pytest.approx(intercept))
    assert [(each.low, each.high) for each in found.bins] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    for each, inside in zip(found.bins, [x < 1, (x >= 1) & (x < 2), (x >= 2) & (x < 3), x >= 3], strict=True):
        assert each.count == inside.sum()
        assert each.predicted == pytest.approx(x[inside].mean())
        assert each.given == pytest.approx(y[inside].mean())


def test_constants_and_nothing() -> None:
    truth = np.array([[0.0, 2.0], [4.0, np.nan]])
    found = reliability(truth, np.full((2, 2), 1.2), scale=(0.0, 4.0))
    assert (found.slope, found.intercept) == (None, None)
    assert [(each.count, each.given) for each in found.bins] == [(3, 2)]
    nothing = reliability(np.full((2, 2), np.nan), np.ones((2, 2)), scale=(0.0, 4.0))
    assert (nothing.slope, nothing.bins) == (None, ())
