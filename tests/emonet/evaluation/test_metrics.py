from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from emonet.configs import EvaluationConfig
from emonet.evaluation import METRIC_NAMES, METRICS, Scores, difference, evaluate, resample, weighted_metrics
from emonet.evaluation.bootstrap import sample
from emonet.evaluation.results import MetricScores

pytestmark = pytest.mark.numeric

TARGETS = ("anger", "fear", "awe")


def some_scores(clips: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Tied truth with gaps, and predictions that go with it."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 5, (clips, 3)).astype(np.float32)
    predictions = (truth + rng.normal(0, 1, truth.shape)).round(1).astype(np.float32)
    truth[rng.random(truth.shape) < 0.2] = np.nan
    return truth, predictions


def speakers(clips: int, different: int) -> list[str]:
    return [f"s{row % different}" for row in range(clips)]


def concordance(x: np.ndarray, y: np.ndarray) -> float:
    """Lin's (1989) definition."""
    covariance = ((x - x.mean()) * (y - y.mean())).mean()
    return 2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


def test_figures_are_scipys() -> None:
    truth, predictions = some_scores()
    scores = evaluate(
        truth, predictions, targets=TARGETS, speakers=speakers(60, 6), config=EvaluationConfig(resamples=5)
    )
    for column, target in enumerate(TARGETS):
        known = ~np.isnan(truth[:, column])
        y, x = truth[known, column].astype(float), predictions[known, column].astype(float)
        expected = {
            "mae": np.abs(x - y).mean(),
            "rmse": np.sqrt(np.square(x - y).mean()),
            "pearson": stats.pearsonr(x, y).statistic,
            "spearman": stats.spearmanr(x, y).statistic,
            "ccc": concordance(x, y),
        }
        for name in METRIC_NAMES:
            assert scores.of(name).per_target[target].value == pytest.approx(expected[name], abs=1e-9)
    for name in METRIC_NAMES:
        each = [estimate.value for estimate in scores.of(name).per_target.values()]
        assert scores.of(name).mean.value == pytest.approx(np.mean(each))


@pytest.mark.parametrize(("different", "unit"), [(6, "speakers"), (4, "clips")])
def test_the_bootstrap_is_explicit_resampling(different: int, unit: str) -> None:
    truth, predictions = some_scores(24)
    names = speakers(24, different)
    counts, owner, resampled = resample(names, 50, seed=1)
    assert resampled == unit
    fast, weights = weighted_metrics(truth, predictions, counts, owner), counts[:, owner]
    for draw in range(50):
        rows = np.repeat(np.arange(24), weights[draw].astype(int))
        for column in range(3):
            known = rows[~np.isnan(truth[rows, column])]
            y, x = truth[known, column].astype(float), predictions[known, column].astype(float)
            expected = (
                np.abs(x - y).mean(),
                np.sqrt(np.square(x - y).mean()),
                stats.pearsonr(x, y).statistic,
                stats.spearmanr(x, y).statistic,
                concordance(x, y),
            )
            found = [fast[name][draw, column] for name in METRIC_NAMES]
            np.testing.assert_allclose(found, expected, atol=1e-9)
    config = EvaluationConfig(resamples=50, confidence=0.9)
    scores = evaluate(truth, predictions, targets=TARGETS, speakers=names, config=config, seed=1)
    assert scores.resampled == unit
    low, high = np.percentile(fast["pearson"].mean(1), [5, 95])
    assert (scores.pearson.mean.low, scores.pearson.mean.high) == (pytest.approx(low), pytest.approx(high))


def test_memory_does_not_grow_with_clips_times_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emonet.evaluation.metrics._BLOCK", 1 << 16)
    rng = np.random.default_rng(0)
    truth, predictions = rng.normal(size=(2, 3000, 1)).astype(np.float32)
    names = speakers(3000, 6)
    tracemalloc.start()
    sample(truth, predictions, targets=TARGETS[:1], speakers=names, config=EvaluationConfig(resamples=1000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3000 * 1000 * 8, "weights of all clips in all resamples alone would take more"


def test_speakers_are_drawn_whole() -> None:
    counts, owner, _ = resample(speakers(20, 5), 30, seed=0)
    weights = counts[:, owner]
    for speaker in range(5):
        of_speaker = weights[:, speaker::5]
        assert (of_speaker == of_speaker[:, :1]).all()
    assert (weights[:, :5].sum(1) == 5).all()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), min_size=3, max_size=12),
)
def test_ranks_survive_any_ties_and_weights(rows: list[tuple[int, int, int]]) -> None:
    x, y, weight = (np.array(column, float) for column in zip(*rows, strict=True))
    fast = weighted_metrics(y[:, None], x[:, None], weight[None])["spearman"][0, 0]
    repeated_x, repeated_y = np.repeat(x, weight.astype(int)), np.repeat(y, weight.astype(int))
    if len(set(repeated_y)) < 2:
        assert np.isnan(fast)
    elif len(set(repeated_x)) < 2:
        assert fast == 0
    else:
        assert fast == pytest.approx(stats.spearmanr(repeated_x, repeated_y).statistic, abs=1e-9)


def test_ccc_is_lowered_where_mean_or_spread_are_off() -> None:
    truth = np.tile(np.arange(8.0)[:, None], (1, 3))
    predictions = np.stack([truth[:, 0], truth[:, 0] + 100_000, truth[:, 0] / 2], 1)
    scores = evaluate(
        truth, predictions, targets=TARGETS, speakers=speakers(8, 8), config=EvaluationConfig(resamples=5)
    )
    assert [scores.pearson.per_target[target].value for target in TARGETS] == pytest.approx([1, 1, 1])
    found = [scores.ccc.per_target[target].value for target in TARGETS]
    assert found == pytest.approx([concordance(predictions[:, column], truth[:, 0]) for column in range(3)])
    assert found[0] == 1
    assert 0 < found[1] < 1e-8
    assert found[2] < 0.7


def test_constants() -> None:
    truth = np.array([[0, 1, np.nan], [0, 2, np.nan], [0, 3, np.nan]], np.float32)
    predictions = np.array([[1, 0.1, 1], [2, 0.1, 1], [3, 0.1, 1]], np.float32)
    scores = evaluate(
        truth, predictions, targets=TARGETS, speakers=speakers(3, 3), config=EvaluationConfig(resamples=20)
    )
    for name in ("pearson", "spearman", "ccc"):
        each = scores.of(name).per_target
        assert each["anger"].value is None, "nothing to order"
        assert each["fear"].value == 0, "constant predictions order nothing"
        assert each["awe"].value is None, "nobody rated it"
        assert scores.of(name).mean.value == 0
    assert scores.mae.per_target["anger"].value == 2
    assert scores.mae.per_target["awe"] == scores.pearson.per_target["anger"]
    assert scores.mae.mean.value == pytest.approx((2 + 1.9) / 2, abs=1e-6)


def test_a_metric_knows_its_direction() -> None:
    assert METRICS["mae"].beats(0.1, 0.2)
    assert not METRICS["pearson"].beats(0.1, 0.2)
    assert METRICS["pearson"].beats(0.1, None)
    assert not METRICS["mae"].beats(None, 0.2)
    assert not METRICS["mae"].beats(None, None)


def test_what_cannot_be_compared_is_refused() -> None:
    truth, predictions = some_scores(6)
    predictions[3, 1] = np.nan
    config = EvaluationConfig(resamples=5)
    with pytest.raises(ValueError, match="not a finite number"):
        evaluate(truth, predictions, targets=TARGETS, speakers=speakers(6, 2), config=config)
    with pytest.raises(ValueError, match="no clips"):
        evaluate(truth[:0], predictions[:0], targets=TARGETS, speakers=[], config=config)


def test_a_thousand_resamples_of_40_targets() -> None:
    rng = np.random.default_rng(0)
    truth, predictions = rng.random((2, 300, 40))
    names = [str(column) for column in range(40)]
    scores = evaluate(truth, predictions, targets=names, speakers=speakers(300, 8), config=EvaluationConfig())
    for estimate in (scores.mae.mean, scores.pearson.mean, *scores.spearman.per_target.values()):
        assert estimate.low < estimate.value < estimate.high


def test_a_difference_has_an_interval_of_its_own() -> None:
    truth, predictions = some_scores(60)
    better = np.nan_to_num(truth + 0.5 * (predictions - truth))
    config = EvaluationConfig(resamples=200)
    common = {"speakers": speakers(60, 6), "config": config, "seed": 3}
    change = difference(truth, better, predictions, metric="mae", **common)
    scores = [evaluate(truth, predicted, targets=TARGETS, **common).mae.mean for predicted in (better, predictions)]
    assert change.value == pytest.approx(scores[0].value - scores[1].value)
    assert change.high < 0, "better in every resample, although the two intervals may overlap"
    assert change.high - change.low < scores[1].high - scores[1].low
    nothing = difference(truth, better, better, metric="pearson", **common)
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)


def test_a_mean_says_over_how_many() -> None:
    truth, predictions = some_scores(12)
    truth[:, 0], truth[:, 2] = 0, np.nan  # nothing to order; nobody rated it
    scores = evaluate(
        truth, predictions, targets=TARGETS, speakers=speakers(12, 3), config=EvaluationConfig(resamples=5)
    )
    assert [scores.of(name).over for name in METRIC_NAMES] == [2, 2, 1, 1, 1]
    assert scores.averaged("emotions") == "2 of 3 emotions (Pearson, Spearman and CCC: 1)"
    flat = scores.flat()
    assert (flat["mae/targets"], flat["pearson/targets"]) == (2, 1)
    assert Scores.model_validate_json(scores.model_dump_json()) == scores
    former = scores.model_dump(mode="json")
    for name in METRIC_NAMES:
        del former[name]["over"]
    assert Scores.model_validate(former) == scores, "results of earlier versions are read"
    built = MetricScores.model_validate({"mean": scores.pearson.mean, "per_target": scores.pearson.per_target})
    assert built == scores.pearson, "estimates are counted as their fields are"
    whole = some_scores(12)[0]
    every = evaluate(
        whole, predictions, targets=TARGETS, speakers=speakers(12, 3), config=EvaluationConfig(resamples=5)
    )
    assert every.averaged() == "3 targets"


@pytest.mark.parametrize(("different", "clips"), [(6, 24), (3, 24), (1, 1)])
def test_a_single_speaker_or_clip_has_no_interval(different: int, clips: int) -> None:
    truth, predictions = some_scores(clips)
    truth[:, 0] = np.nan
    truth[0, 0] = 2.0  # one clip; where speakers are drawn, a second one of the same
    if different == 6:
        truth[6, 0] = 1.0
    scores = evaluate(
        truth, predictions, targets=TARGETS, speakers=speakers(clips, different), config=EvaluationConfig(resamples=9)
    )
    anger = scores.mae.per_target["anger"]
    assert anger.value is not None
    assert (anger.low, anger.high) == (None, None)
    assert (scores.mae.mean.low is None) == (clips == 1)
