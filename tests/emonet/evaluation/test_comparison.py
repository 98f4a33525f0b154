from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emonet.configs import EvaluationConfig
from emonet.errors import RequestError
from emonet.evaluation import (
    METRIC_NAMES,
    Classified,
    Comparison,
    Contender,
    ContenderFacts,
    PairwiseDifference,
    compare,
    difference,
    evaluate,
    swapped,
)
from emonet.targets import NO_CLASS

pytestmark = pytest.mark.numeric

TARGETS = ("anger", "fear", "awe", "pride")
CONFIG = EvaluationConfig(resamples=60)


def some_scores(clips: int = 48, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Given scores with gaps, the last target never rated; and predictions of three models, the first one best."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 5, (clips, 4)).astype(np.float32)
    noise = rng.normal(0, 1, (3, clips, 4)) * np.array([0.4, 0.8, 0.8])[:, None, None]
    predictions = (truth + noise).astype(np.float32)
    truth[rng.random(truth.shape) < 0.1] = np.nan
    truth[:, 3] = np.nan
    return truth, predictions


def speakers(clips: int = 48, different: int = 12) -> list[str]:
    return [f"s{row % different}" for row in range(clips)]


def compared(truth: np.ndarray, predictions: np.ndarray, *, different: int = 12, **options: object) -> Comparison:
    contenders = [Contender(f"model {number}", each) for number, each in enumerate(predictions)]
    names = speakers(len(truth), different)
    return compare(truth, contenders, targets=TARGETS, speakers=names, config=CONFIG, scale=(0.0, 4.0), **options)


def test_figures_are_those_of_evaluation() -> None:
    truth, predictions = some_scores()
    found = compared(truth, predictions, seed=3)
    common = {"speakers": speakers(), "config": CONFIG, "seed": 3}
    assert list(found.scores) == ["model 0", "model 1", "model 2"]
    for label, each in zip(found.scores, predictions, strict=True):
        assert found.scores[label] == evaluate(truth, each, targets=TARGETS, **common)
    assert [(pair.one[-1], pair.other[-1]) for pair in found.pairs] == [("0", "1"), ("0", "2"), ("1", "2")]
    pair = found.pairs[1]
    for name in METRIC_NAMES:
        assert pair.mean[name] == difference(truth, predictions[0], predictions[2], metric=name, **common)
    errors = np.abs(predictions.astype(float) - truth)
    owner = np.unique(speakers(), return_inverse=True)[1]
    p = swapped(errors[0] - errors[2], owner, permutations=10_000, seed=3)
    assert [each.p for each in pair.emotions.values()] == [*p[:3], None]
    assert pair.p == p[4]
    anger = pair.emotions["anger"]
    alone = difference(truth[:, :1], predictions[0, :, :1], predictions[2, :, :1], metric="mae", **common)
    assert anger.mae == alone
    assert anger.clips == (~np.isnan(truth[:, 0])).sum()
    assert anger.p_holm >= anger.p
    assert (found.clips, found.speakers, found.resampled, found.test.tests) == (48, 12, "speakers", 3)


def test_the_better_model_is_found_and_equal_ones_are_not_told_apart() -> None:
    truth, predictions = some_scores(240)
    found = compared(truth, predictions)
    best, equal = found.pair("model 0", "model 1"), found.pair("model 1", "model 2")
    assert best.mean["mae"].high < 0
    assert best.mean["ccc"].low > 0
    assert best.is_significant(found.alpha)
    assert best.significant(found.alpha) == ("anger", "fear", "awe")
    assert not equal.is_significant(found.alpha)
    assert equal.significant(found.alpha) == ()
    assert Comparison.model_validate_json(found.model_dump_json()) == found


def same(one: PairwiseDifference, other: PairwiseDifference) -> None:
    """Whether two differences are equal but for rounding."""
    for name in METRIC_NAMES:
        for end in ("value", "low", "high"):
            assert getattr(one.mean[name], end) == pytest.approx(getattr(other.mean[name], end), abs=1e-12)
    assert (one.one, one.other, one.p) == (other.one, other.other, other.p)
    for target, each in one.emotions.items():
        assert (each.p, each.p_holm, each.clips) == (
            other.emotions[target].p,
            other.emotions[target].p_holm,
            other.emotions[target].clips,
        )
        for end in ("value", "low", "high"):
            value = getattr(other.emotions[target].mae, end)
            assert getattr(each.mae, end) == (None if value is None else pytest.approx(value, abs=1e-12))


@settings(max_examples=15)
@given(st.integers(0, 1000), st.sampled_from([3, 6]))
def test_which_model_comes_first_only_turns_signs(seed: int, different: int) -> None:
    truth, predictions = some_scores(24, seed)
    names = speakers(24, different)
    contenders = [Contender("a", predictions[0]), Contender("b", predictions[1])]
    options = {"targets": TARGETS, "speakers": names, "config": CONFIG, "permutations": 200, "seed": seed}
    options["scale"] = (0.0, 4.0)
    forth, back = compare(truth, contenders, **options), compare(truth, contenders[::-1], **options)
    same(forth.pair("b", "a"), back.pairs[0])
    same(forth.pairs[0], back.pair("a", "b"))
    assert forth.pairs[0].swapped().swapped() == forth.pairs[0]


@settings(max_examples=15)
@given(st.integers(0, 1000), st.floats(-2, 2))
def test_only_errors_matter(seed: int, shift: float) -> None:
    truth, predictions = (each.astype(np.float64) for each in some_scores(24, seed))
    shift = round(shift * 8) / 8  # exact in floating point, so that ties stay ties
    truth, predictions = (np.round(each * 8) / 8 for each in (truth, predictions))
    one = compared(truth, predictions[:2], different=6, permutations=100)
    other = compared(truth + shift, predictions[:2] + shift, different=6, permutations=100)
    same(one.pairs[0], other.pairs[0])


def test_a_model_does_not_differ_from_itself() -> None:
    truth, predictions = some_scores()
    pair = compared(truth, predictions[[0, 0]]).pairs[0]
    for estimate in pair.mean.values():
        assert (estimate.value, estimate.low, estimate.high) == (0, 0, 0)
    assert pair.p == 1
    assert [each.p_holm for each in pair.emotions.values()] == [1, 1, 1, None]


def test_baselines_are_not_compared_with_each_other() -> None:
    truth, predictions = some_scores()
    baseline = ContenderFacts(baseline=True, seen_clips=0)
    contenders = [
        Contender("median", predictions[1], baseline),
        Contender("mel_ridge", predictions[2], baseline),
        Contender("experts", predictions[0], ContenderFacts(seen_clips=7)),
    ]
    found = compare(truth, contenders, targets=TARGETS, speakers=speakers(), config=CONFIG, scale=(0.0, 4.0))
    assert [(pair.one, pair.other) for pair in found.pairs] == [("experts", "median"), ("experts", "mel_ridge")]
    assert list(found.scores) == ["median", "mel_ridge", "experts"]
    assert found.facts["experts"].seen_clips == 7
    with pytest.raises(KeyError, match="'median' and 'mel_ridge' were not compared"):
        found.pair("median", "mel_ridge")
    alone = compare(truth, contenders[:1], targets=TARGETS, speakers=speakers(), config=CONFIG, scale=(0.0, 4.0))
    assert alone.pairs == ()


@pytest.mark.parametrize(
    ("different", "said"),
    [
        (5, "With 5 speakers no p value can be below 0.0625: the permutation test cannot tell any difference"),
        (6, "no p value can be below 0.0312, and none below 0.094 once corrected over 3 targets"),
        (4, "only 4 speakers, so clips were resampled and swapped one by one"),
    ],
)
def test_what_a_reader_has_to_know_is_said(different: int, said: str) -> None:
    truth, predictions = some_scores()
    found = compared(truth, predictions[:2], different=different)
    assert len(found.notes()) == 1
    assert said in found.notes()[0]
    assert found.notes()[0] in compared(truth, predictions, different=different).notes()
    assert compared(truth, predictions[:2]).notes() == ()
    assert "not corrected for there being 3 pairs" in compared(truth, predictions).notes()[0]


def test_what_cannot_be_compared_is_refused() -> None:
    truth, predictions = some_scores()
    options = {"targets": TARGETS, "speakers": speakers(), "config": CONFIG, "scale": (0.0, 4.0)}
    with pytest.raises(RequestError, match="two models have the same name") as refused:
        compare(truth, [Contender("a", predictions[0]), Contender("a", predictions[1])], **options)
    assert "'a'" in str(refused.value)
    with pytest.raises(RequestError, match="no clip has a score"):
        compare(truth * np.nan, [Contender("a", predictions[0])], **options)
    with pytest.raises(ValueError, match="no clips"):
        compare(
            truth[:0],
            [Contender("a", predictions[0, :0])],
            targets=TARGETS,
            speakers=[],
            config=CONFIG,
            scale=(0.0, 4.0),
        )


def test_ten_thousand_swaps_of_40_emotions() -> None:
    """Differences around nothing: their p-values lie all over, and none is zero."""
    rng = np.random.default_rng(0)
    differences = rng.normal(0, 1, (1440, 40))
    p = swapped(differences, np.arange(1440), permutations=10_000, seed=0)
    assert p.shape == (41,)  # the mean as well
    assert 1 / 10_001 <= p.min() < 0.2 < 0.8 < p.max() <= 1


def test_bins_of_predicted_scores_cover_the_scale_of_the_targets() -> None:
    truth = np.random.default_rng(0).uniform(-3, 3, (48, 4)).astype(np.float32)
    contenders = [Contender("a", truth), Contender("b", truth * 0)]
    found = compare(truth, contenders, targets=TARGETS, speakers=speakers(), config=CONFIG, scale=(-3.0, 3.0))
    bins = found.reliability["a"].bins
    assert (bins[0].low, bins[-1].high, len(bins)) == (-3, 3, 8)
    assert all(one.low <= one.predicted <= one.high for one in bins)


def with_classes(*, different: int = 12) -> Comparison:
    """Model 0 knows the classes best; its predictions are also asked for where a clip has none."""
    truth, predictions = some_scores()
    rng = np.random.default_rng(1)
    given = rng.integers(0, 3, 48)
    wrong = rng.permutation(48)
    predicted = {
        f"model {number}": np.where(np.isin(np.arange(48), wrong[:count]), (given + 1) % 3, given)
        for number, count in enumerate((4, 20, 20))
    }
    given[:3] = NO_CLASS
    names = {"anger": "angry", "fear": "fearful", "awe": "awed"}
    classified = Classified(names, given, predicted | {"majority": np.zeros(48, int)})
    return compared(truth, predictions, different=different, classified=classified)


def test_classes_are_compared_in_pairs() -> None:
    found = with_classes()
    assert list(found.classes) == ["model 0", "model 1", "model 2", "majority"]
    assert {(scores.clips, scores.left_out) for scores in found.classes.values()} == {(45, 3)}
    better, _, same_again = (pair.classes for pair in found.pairs)
    assert better is not None
    assert same_again is not None
    values = [found.classes[f"model {number}"].ua.value for number in (0, 1)]
    assert better.ua.value == pytest.approx(values[0] - values[1])
    assert better.ua.low is not None
    assert better.ua.low > 0
    assert better.p is not None
    assert better.p < 0.01
    assert (same_again.ua.value, same_again.p) == (0.0, 1.0)
    turned = found.pairs[0].swapped()
    assert turned.classes is not None
    assert turned.classes.ua.value == -better.ua.value
    assert (turned.classes.ua.low, turned.classes.p) == (-better.ua.high, better.p)
    assert turned.swapped() == found.pairs[0]


def test_without_labels_there_are_no_classes() -> None:
    found = compared(*some_scores())
    assert found.classes == {}
    assert {pair.classes for pair in found.pairs} == {None}
