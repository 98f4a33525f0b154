from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from emonet.configs import EvaluationConfig
from emonet.evaluation import evaluate, fold_classes, fold_scores, sample_classes
from emonet.targets import NO_CLASS

CONFIG = EvaluationConfig(resamples=200)
CLASSES = {"a": "A", "b": "B", "c": "C"}


def made(speakers: int = 12, takes: int = 20, folds: int = 4) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(speakers), takes)
    return who % folds, who, rng.normal(0, 1, (len(who), 2)), rng.normal(0, 1, (len(who), 2))


def test_means_are_those_of_the_folds() -> None:
    folds, who, truth, noise = made()
    truth[folds == 1, 1] = np.nan
    predictions = truth + noise
    predictions[np.isnan(predictions)] = 0
    options = {"speakers": who.astype(str).tolist(), "config": CONFIG, "seed": 0}
    pooled = evaluate(truth, predictions, targets=["x", "y"], **options)
    found = fold_scores(truth, predictions, pooled, folds=folds, **options)
    for fold in range(4):
        rows = folds == fold
        alone = evaluate(
            truth[rows], predictions[rows], targets=["x", "y"], speakers=who[rows].astype(str).tolist(), config=CONFIG
        )
        for name, figures in found.items():
            assert figures.per_fold[fold] == pytest.approx(alone.of(name).mean.value)
    for name, figures in found.items():
        assert figures.mean == pytest.approx(np.mean(figures.per_fold))
        assert figures.pooled == pooled.of(name).mean
        assert figures.low < figures.mean < figures.high


def test_classes_are_those_of_scikit_learn_also_where_a_fold_lacks_one() -> None:
    folds, who, *_ = made()
    rng = np.random.default_rng(1)
    given = rng.integers(0, 3, len(who))
    given[(folds == 2) & (given == 1)] = 0
    predicted = np.where(rng.random(len(who)) < 0.6, given, rng.integers(0, 3, len(who)))
    predicted[(folds == 2) & (predicted == 1)] = 2
    given[:3] = NO_CLASS
    options = {"speakers": who.astype(str).tolist(), "config": CONFIG, "seed": 0}
    pooled = sample_classes(given, predicted, classes=CLASSES, **options).scores()
    found = fold_classes(given, predicted, pooled, folds=folds, **options)
    for fold in range(4):
        rows = (folds == fold) & (given != NO_CLASS)
        pair = given[rows], predicted[rows]
        assert found["ua"].per_fold[fold] == pytest.approx(balanced_accuracy_score(*pair))
        assert found["wa"].per_fold[fold] == pytest.approx(accuracy_score(*pair))
        assert found["macro_f1"].per_fold[fold] == pytest.approx(f1_score(*pair, average="macro"))
    assert found["ua"].mean == pytest.approx(np.mean(found["ua"].per_fold))
    assert found["ua"].pooled == pooled.ua


def test_the_interval_of_single_speakers_is_that_of_their_mean() -> None:
    """Each speaker is a fold, all with as many clips: drawing speakers is drawing folds, and the mean MAE is pooled."""
    folds, who, truth, noise = made(folds=12)
    scale = 0.2 + np.linspace(0, 2, 12)[who][:, None]
    options = {"speakers": who.astype(str).tolist(), "config": CONFIG, "seed": 3}
    pooled = evaluate(truth, truth + scale * noise, targets=["x", "y"], **options)
    mae = fold_scores(truth, truth + scale * noise, pooled, folds=folds, **options)["mae"]
    assert (mae.mean, mae.low, mae.high) == pytest.approx((mae.pooled.value, mae.pooled.low, mae.pooled.high))


def test_one_speaker_has_no_interval_and_what_is_undefined_is_left_out() -> None:
    truth = np.array([[0.0], [1.0], [2.0], [2.0]])
    options = {"speakers": ["s"] * 4, "config": CONFIG, "seed": 0}
    pooled = evaluate(truth, truth / 2, targets=["x"], **options)
    figures = fold_scores(truth, truth / 2, pooled, folds=np.array([0, 0, 1, 1]), **options)["pearson"]
    assert figures.per_fold == (pytest.approx(1.0), None), "all the same in the second"
    assert figures.mean == pytest.approx(1.0)
