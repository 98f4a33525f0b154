"""Traps of metrics that benchmarks fall into: two conventions, the same predictions, and which of them is ours."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score

from emonet.clips import Clip
from emonet.configs import EvaluationConfig
from emonet.evaluation import ClassScores, Scored, evaluate, fold_classes, sample_classes
from emonet.protocols import Distributions, distribution_table, hear, measure, open_mapping
from emonet.protocols.sim_to_real.tables import CLASS_SIZES
from emonet.targets import EMOTIONS

pytestmark = pytest.mark.numeric
CONFIG = EvaluationConfig(resamples=20)
CLASSES = {"anger": "angry", "elation": "happy", "sadness": "sad", "fear": "fearful"}


def classified(given: list[int], predicted: list[int]) -> ClassScores:
    sampled = sample_classes(
        np.array(given), np.array(predicted), classes=CLASSES, speakers=["a"] * len(given), config=CONFIG
    )
    assert sampled is not None
    return sampled.scores()


def test_ccc_has_biased_variances() -> None:
    """As MSP-Podcast's challenges; unbiased ones with a biased covariance give less, most of all with few clips."""
    truth, told = np.array([0.0, 1, 2, 4]), np.array([1.0, 1, 3, 3])
    covariance = np.cov(truth, told, bias=True)[0, 1]
    apart = (truth.mean() - told.mean()) ** 2
    biased = 2 * covariance / (truth.var() + told.var() + apart)
    mixed = 2 * covariance / (truth.var(ddof=1) + told.var(ddof=1) + apart)
    found = evaluate(truth[:, None], told[:, None], targets=["anger"], speakers=list("abcd"), config=CONFIG)
    assert found.ccc.mean.value == pytest.approx(biased, abs=1e-9)
    assert biased - mixed > 0.15


def test_ua_is_over_the_classes_that_are_there() -> None:
    """A fold that lacks a class has another UA than one that counts it as 0."""
    given, predicted = [0, 0, 1, 1], [0, 0, 1, 2]
    assert classified(given, predicted).ua.value == 0.75
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "y_pred contains classes not in y_true", UserWarning)
        assert balanced_accuracy_score(given, predicted) == 0.75
    of_four = recall_score(given, predicted, labels=range(4), average="macro", zero_division=0)
    assert of_four == 0.375


def test_macro_f1_leaves_out_what_is_neither_given_nor_predicted() -> None:
    given, predicted = [0, 0, 1, 1], [0, 0, 1, 2]
    ours = classified(given, predicted).macro_f1.value
    assert ours == pytest.approx((1 + 2 / 3 + 0) / 3)  # the class that is predicted in vain counts as 0
    assert f1_score(given, predicted, average="macro") == pytest.approx(ours)
    assert f1_score(given, predicted, labels=range(4), average="macro", zero_division=0) == pytest.approx(ours * 3 / 4)


def test_the_mean_over_folds_is_not_the_figure_of_all_clips() -> None:
    """EmoBox has the one, ResLSTM the other: here 0.75 and 0.55 of the same predictions."""
    given = np.array([0, 0] + [0] * 9 + [1] * 9)
    predicted = np.array([0, 0] + [1] * 9 + [1] * 9)
    speakers = ["a"] * 2 + ["b"] * 18
    pooled = classified(given.tolist(), predicted.tolist())
    folds = fold_classes(
        given, predicted, pooled, folds=np.array([0] * 2 + [1] * 18), speakers=speakers, config=CONFIG, seed=0
    )
    assert folds["ua"].mean == pytest.approx((1 + 0.5) / 2)
    assert folds["ua"].pooled.value == pytest.approx((2 / 11 + 1) / 2)
    assert folds["wa"].mean == pytest.approx(0.75)
    assert folds["wa"].pooled.value == pytest.approx(0.55)


def test_half_as_many_neutral_clips_part_accuracy_from_recall() -> None:
    """RAVDESS: who hears all but neutral has a WA of 93.3 %, a UA of 87.5 %; the lenient total goes by clips, too."""
    sizes, mapping = CLASS_SIZES["ravdess"], open_mapping("ravdess")
    clips, scores = [], []
    for name, size in sizes.items():
        told = "angry" if name == "neutral" else name
        row = dict.fromkeys(mapping.classes[told], 4.0)
        for number in range(size // 4):
            clips.append(Clip(f"{name}{number}", Path("x.wav"), f"s{number % 6}", "test", label=name))
            scores.append([row.get(emotion, 0.0) for emotion in EMOTIONS.ids])
    table = pd.DataFrame(scores, index=[clip.id for clip in clips], columns=list(EMOTIONS.ids))
    found = measure(hear(Scored(table), clips, mapping, spec=EMOTIONS), CONFIG)
    assert found.top1.wa.value == pytest.approx(14 / 15)
    assert found.top1.ua.value == pytest.approx(7 / 8)
    assert found.lenient.overall.value == pytest.approx(14 / 15)


def test_spearman_of_ratings_that_are_mostly_zero() -> None:
    """Ties share their middle rank, as in SciPy: ranks by position would depend on the order of the clips."""
    rng = np.random.default_rng(0)
    truth = np.where(rng.random(200) < 0.9, 0.0, rng.integers(1, 3, 200))
    told = truth + rng.normal(0, 1, 200)
    order = rng.permutation(200)
    names = [f"s{row % 6}" for row in range(200)]
    one, other = (
        evaluate(truth[rows, None], told[rows, None], targets=["awe"], speakers=names, config=CONFIG)
        for rows in (np.arange(200), order)
    )
    assert one.spearman.mean.value == pytest.approx(stats.spearmanr(truth, told).statistic, abs=1e-9)
    assert other.spearman.mean.value == pytest.approx(one.spearman.mean.value, abs=1e-12)
    by_position = [
        np.corrcoef(truth[rows].argsort(kind="stable").argsort(), told[rows].argsort().argsort())[0, 1]
        for rows in (np.arange(200), order)
    ]
    assert abs(by_position[0] - by_position[1]) > 0.005
    perfect = evaluate(truth[:, None], np.sign(truth[:, None]), targets=["awe"], speakers=names, config=CONFIG)
    assert perfect.spearman.mean.value is not None
    assert perfect.spearman.mean.value < 1  # even who knows all non-zero ratings has no 1


def test_rules_that_drop_clips_flatter() -> None:
    """The same predictions: 4 of 6 right where a plurality is asked for, all 3 where a majority is."""
    votes = np.array([[3, 0, 0], [0, 3, 0], [0, 0, 3], [2, 1, 1], [1, 2, 1], [1, 1, 2]], float)
    truth = Distributions(tuple("abcdef"), ("x", "y", "z"), votes, votes.sum(1).astype(int))
    told = np.eye(3)[[0, 1, 2, 0, 0, 0]] * 0.7 + 0.1
    table = distribution_table(truth, {"m": told}, speakers=list("abcdef"), config=CONFIG)
    assert [table.records()[0][name] for name in ("wa", "majority_wa")] == pytest.approx([4 / 6, 1.0])
