"""Metrics of distributions with known answers, against SciPy and scikit-learn, and the table that holds them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr
from sklearn.metrics import f1_score

from emonet.configs import EvaluationConfig
from emonet.errors import RequestError
from emonet.evaluation import Scored
from emonet.protocols import Distributions, ProtocolTable, distribution_table, predicted_distributions
from emonet.protocols.label_variance.metrics import jensen_shannon, kl_divergence, n_best, one_over_c, smoothed
from emonet.targets import EMOTIONS

CONFIG = EvaluationConfig(resamples=100)


def labels(*votes: list[float]) -> Distributions:
    counts = np.array(votes, float)
    clips, classes = tuple(f"c{row:03}" for row in range(len(votes))), tuple("abcdefgh"[: counts.shape[1]])
    return Distributions(clips, classes, counts, counts.sum(1).astype(int))


def table(truth: Distributions, **models: np.ndarray) -> ProtocolTable:
    return distribution_table(truth, models, speakers=[f"s{row % 6}" for row in range(len(truth.clips))], config=CONFIG)


def test_divergences_by_hand() -> None:
    truth, told = np.array([[1.0, 0], [0.5, 0.5], [1, 0]]), np.array([[0.5, 0.5], [0.25, 0.75], [0, 1.0]])
    assert kl_divergence(truth, told)[:2] == pytest.approx([math.log(2), 0.5 * math.log(4 / 3)])
    assert kl_divergence(truth, told)[2] == pytest.approx(math.log(1e6))  # finite where SciPy says infinite
    middle = 0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)
    assert jensen_shannon(truth, told)[[0, 2]] == pytest.approx([-middle - 0.5, 1.0])


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    size = draw(st.integers(2, 6))
    rows = st.lists(st.integers(0, 5), min_size=size, max_size=size).filter(any)
    one, other = (np.array(draw(st.lists(rows, min_size=3, max_size=3)), float) for _ in range(2))
    return one / one.sum(1, keepdims=True), other / other.sum(1, keepdims=True)


@given(pairs())
@settings(deadline=None)
def test_divergences_are_scipys(pair: tuple[np.ndarray, np.ndarray]) -> None:
    one, other = pair
    assert kl_divergence(one, smoothed(other)) == pytest.approx(rel_entr(one, smoothed(other)).sum(1), abs=1e-9)
    root = [jensenshannon(a, b, base=2) for a, b in zip(one, other, strict=True)]
    assert jensen_shannon(one, other) == pytest.approx(np.square(root), abs=1e-9)
    assert jensen_shannon(one, other) == pytest.approx(jensen_shannon(other, one), abs=1e-12)
    assert jensen_shannon(one, one) == pytest.approx(0, abs=1e-12)


def test_smoothing_replaces_zeros_alone() -> None:
    assert smoothed(np.array([[0.5, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25]])) == pytest.approx(
        np.array([[0.5, 0.5, 0.01, 0.01], [0.255, 0.255, 0.255, 0.255]]) / 1.02
    )


def test_one_over_c_is_strict() -> None:
    """A share of just 1/C is none; labels of 2 raters in 4 classes have two classes, those of 4 none."""
    shares = np.array([[0.5, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.75, 0.25, 0, 0]])
    assert one_over_c(shares).tolist() == [[True, True, False, False], [False] * 4, [True, False, False, False]]
    uniform = np.full((1, 3), 1 / 3) * (1 + 1e-12)
    assert not one_over_c(uniform).any()


def test_smoothing_first_would_move_the_threshold() -> None:
    """3 of 23 raters are above 1/8, and are not any more where five zeros have become 0.01."""
    shares = np.array([[3, 10, 10, 0, 0, 0, 0, 0]]) / 23
    assert one_over_c(shares)[0, 0]
    assert not one_over_c(smoothed(shares))[0, 0]


def test_n_best_by_hand() -> None:
    told = np.array([[0.5, 0.3, 0.2, 0.0], [0.25, 0.25, 0.25, 0.25], [0.1, 0.4, 0.4, 0.1]])
    given_ = np.array([1, 2, 0])
    assert n_best(given_, told, 1).tolist() == [0, 0.25, 0]
    assert n_best(given_, told, 2).tolist() == [1, 0.5, 0]
    assert n_best(given_, told, 3).tolist() == [1, 0.75, 0.5]
    assert np.isnan(n_best(np.array([-1]), told[:1], 2)).all()


def test_a_constant_prediction_gains_nothing_by_the_order_of_classes() -> None:
    """With argsort, the first two classes of four would have all hits."""
    given_ = np.array([0, 0, 0, 1])
    assert n_best(given_, np.full((4, 4), 0.25), 2).mean() == 0.5


def test_macro_f1_is_sklearns_where_every_class_is_there() -> None:
    rng = np.random.default_rng(0)
    truth = labels(*rng.integers(0, 4, (40, 4)) + np.eye(4)[np.arange(40) % 4])
    told = rng.dirichlet(np.ones(4), 40)
    record, *_ = table(truth, m=told).records()
    assert record["one_over_c"] == pytest.approx(f1_score(one_over_c(truth.shares), one_over_c(told), average="macro"))
    assert record["kl"] == pytest.approx(rel_entr(smoothed(truth.shares), told).sum(1).mean())
    given_ = truth.consensus("plurality")
    kept = given_ >= 0
    assert record["wa"] == pytest.approx((told.argmax(1) == given_)[kept].mean())
    assert record["best2"] == pytest.approx(np.nanmean(n_best(given_, told, 2)))
    for key in ("kl", "js", "one_over_c", "wa", "best2", "best3"):
        low, value, high = (record[name] for name in (f"{key}_low", key, f"{key}_high"))
        assert isinstance(low, float)
        assert isinstance(value, float)
        assert isinstance(high, float)
        assert low < value < high


def test_perfect_predictions() -> None:
    truth = labels(*([[3, 1, 0, 0], [0, 2, 0, 0], [1, 1, 2, 0], [0, 0, 1, 3]] * 3))
    found = table(truth, m=truth.shares)
    record, *_ = found.records()
    expected = {"js": 0.0, "one_over_c": 1.0, "ua": 1.0, "wa": 1.0, "macro_f1": 1.0, "best2": 1.0, "majority_wa": 1.0}
    assert {name: record[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert found.notes[0] == "KL, JS and the 1/C rule: all 12 clips, 4 classes"
    assert "the 12 clips with a plurality; last column: the 9 with a majority" in found.notes[1]


def test_a_class_that_no_clip_has_is_in_no_mean_but_is_told() -> None:
    """scikit-learn puts 0 there: the same model would have 2/3."""
    truth = labels(*([[2, 0, 0], [0, 2, 0]] * 6))
    found = table(truth, m=truth.shares)
    assert found.records()[0]["one_over_c"] == 1.0
    zero = f1_score(one_over_c(truth.shares), one_over_c(truth.shares), average="macro", zero_division=0)
    assert zero == pytest.approx(2 / 3)
    assert any("no clip has c" in note for note in found.notes)


def test_without_consensus_there_are_still_divergences() -> None:
    truth = labels(*([[1, 1, 0]] * 6))
    record, *_ = table(truth, m=np.full((6, 3), 1 / 3)).records()
    assert (record["wa"], record["best2"], record["majority_wa"]) == (None, None, None)
    assert record["js"] is not None


def test_predictions_that_are_no_distributions() -> None:
    truth = labels([1, 0], [0, 1])
    with pytest.raises(RequestError, match=r"m: 1 clips have no shares that add up to 1, such as c001"):
        table(truth, m=np.array([[0.5, 0.5], [0.5, 0.6]]))
    with pytest.raises(RequestError, match="such as c000"):
        table(truth, m=np.array([[np.nan, 0.5], [0.5, 0.5]]))
    with pytest.raises(RequestError, match=r"m: 2 clips x 2 classes are expected; found \(3, 2\)"):
        table(truth, m=np.full((3, 2), 0.5))


def test_scores_become_distributions_in_the_order_of_the_labels() -> None:
    spec = EMOTIONS.subset(["anger", "sadness", "fear"])
    scores = pd.DataFrame({"fear": [4.0, np.nan], "sadness": [0.0, 1.0], "anger": [0.0, 1.0]}, index=["x", "y"])
    clips, shares = predicted_distributions(Scored(scores, {"y": "too loud"}), ["anger", "Fear"], spec=spec)
    assert clips == ("x",)
    assert shares == pytest.approx(np.array([[1, math.e**4]]) / (1 + math.e**4))
    with pytest.raises(RequestError, match="no target called 'bored'"):
        predicted_distributions(Scored(scores), ["anger", "bored"], spec=spec)
