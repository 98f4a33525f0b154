from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from emonet.baselines import fit_ridge, regressions, some_clips
from emonet.baselines.regressions import ALPHAS, COSTS, REGRESSIONS, TUBE, Fit, fit_svr

pytestmark = pytest.mark.numeric

NAN = float("nan")
Parts = list[tuple[np.ndarray, np.ndarray]]


def linear_data(features: int = 6, clips: tuple[int, int, int] = (80, 30, 20), noise: float = 0.1) -> Parts:
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 1, (features, 3))
    inputs = [rng.normal(3, 2, (count, features)).astype(np.float32) for count in clips]
    return [(x, ((x - 3) @ weights + rng.normal(0, noise, (len(x), 3))).astype(np.float32)) for x in inputs]


@pytest.mark.parametrize("kind", REGRESSIONS)
def test_linear_scores_are_found(kind: str) -> None:
    train, validation, test = linear_data()
    found = REGRESSIONS[kind](train, validation).predict(test[0])
    assert np.abs(found - test[1]).mean() < 0.35
    assert np.corrcoef(found[:, 0], test[1][:, 0])[0, 1] > 0.99


@pytest.mark.parametrize("features", [6, 120])
def test_ridge_is_that_of_scikit_learn(features: int) -> None:
    """More clips than features and fewer: each target with the penalty that does best on validation clips."""
    train, validation, test = linear_data(features, noise=6.0)
    scaler = StandardScaler().fit(train[0].astype(np.float64))
    x, tune, held = (scaler.transform(part[0].astype(np.float64)) for part in (train, validation, test))
    expected = np.empty(test[1].shape)
    chosen = []
    for target in range(3):
        models = [Ridge(alpha=alpha).fit(x, train[1][:, target]) for alpha in ALPHAS]
        errors = [np.square(model.predict(tune) - validation[1][:, target]).mean() for model in models]
        chosen.append(int(np.argmin(errors)))
        expected[:, target] = models[chosen[-1]].predict(held)
    assert len(set(chosen)) > 1, "the targets take different penalties, or this tests little"
    np.testing.assert_allclose(fit_ridge(train, validation).predict(test[0]), expected, rtol=1e-6, atol=1e-6)


def test_support_vectors_are_those_of_scikit_learn() -> None:
    train, validation, test = linear_data(30, noise=6.0)
    scaler = StandardScaler().fit(train[0].astype(np.float64))
    x, tune, held = (scaler.transform(part[0].astype(np.float64)) for part in (train, validation, test))
    level, spread = train[1][:, 0].mean(dtype=np.float64), train[1][:, 0].std(dtype=np.float64)
    models = [SVR(kernel="linear", C=c / 30, epsilon=TUBE).fit(x, (train[1][:, 0] - level) / spread) for c in COSTS]
    errors = [np.square(m.predict(tune) * spread + level - validation[1][:, 0]).mean() for m in models]
    expected = models[int(np.argmin(errors))].predict(held) * spread + level
    np.testing.assert_allclose(fit_svr(train, validation).predict(test[0])[:, 0], expected, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("fit", REGRESSIONS.values())
def test_missing_scores_are_left_out(fit: Fit) -> None:
    train, validation, test = linear_data()
    full = fit(train, validation).predict(test[0])
    gaps = [(x, y.copy()) for x, y in (train, validation)]
    gaps[0][1][::3, 1] = NAN
    gaps[1][1][::2, 1] = NAN
    some = fit(*gaps).predict(test[0])
    np.testing.assert_allclose(some[:, [0, 2]], full[:, [0, 2]])
    assert np.abs(some[:, 1] - test[1][:, 1]).mean() < 0.4
    assert not np.allclose(some[:, 1], full[:, 1])


@pytest.mark.parametrize("fit", REGRESSIONS.values())
def test_the_penalty_comes_from_validation_clips(fit: Fit) -> None:
    """Training scores that mean nothing: validation asks for the strongest penalty."""
    rng = np.random.default_rng(0)
    inputs = [rng.normal(0, 1, (40, 30)) for _ in range(3)]
    train, validation = (inputs[0], rng.normal(0, 1, (40, 1))), (inputs[1], np.zeros((40, 1)))
    loose = Ridge(alpha=0.1).fit(*train).predict(inputs[2])
    assert fit(train, validation).predict(inputs[2]).std() < 0.2 * loose.std()


@pytest.mark.parametrize("fit", REGRESSIONS.values())
def test_a_target_and_a_feature_that_never_vary_give_finite_scores(fit: Fit) -> None:
    train, validation, test = linear_data()
    for inputs, scores in (train, validation, test):
        inputs[:, 0], scores[:, 0] = 5.0, 2.0
    found = fit(train, validation).predict(test[0])
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:, 0], 2.0, atol=0.11)


def test_of_very_many_clips_some_are_taken_with_every_target_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.ones((1000, 2))
    assert len(some_clips(scores, 10)) == 1000
    scores[:, 1] = NAN
    scores[1, 1] = 1.0
    monkeypatch.setattr(regressions, "MOST_BYTES", 8 * 10 * 50)
    rows = some_clips(scores, 10)
    assert (len(rows), rows[0], rows[-1]) == (51, 0, 999)
    assert 1 in rows, "the one that the second target is rated in"

    monkeypatch.setattr(regressions, "MOST_SUPPORTED", 20)
    train, validation, test = linear_data()
    rows = np.linspace(0, 79, 20).round().astype(int)
    few = fit_svr((train[0][rows], train[1][rows]), validation).predict(test[0])
    np.testing.assert_array_equal(fit_svr(train, validation).predict(test[0]), few)
