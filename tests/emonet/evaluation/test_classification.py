from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score

from emonet.configs import EvaluationConfig
from emonet.evaluation import ClassScores, sample_classes
from emonet.targets import NO_CLASS

pytestmark = pytest.mark.numeric
CLASSES = {"anger": "angry", "elation": "happy", "sadness": "sad", "fear": "fearful"}
CONFIG = EvaluationConfig(resamples=200)


def scored(truth: np.ndarray, predicted: np.ndarray, speakers: list[str] | None = None, seed: int = 0) -> ClassScores:
    names = speakers or [f"s{row % 6}" for row in range(len(truth))]
    sampled = sample_classes(truth, predicted, classes=CLASSES, speakers=names, config=CONFIG, seed=seed)
    assert sampled is not None
    return sampled.scores()


def some_classes(clips: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unequal classes, most of them right."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(4, clips, p=[0.5, 0.3, 0.15, 0.05])
    return truth, np.where(rng.random(clips) < 0.6, truth, rng.integers(0, 4, clips))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
@settings(deadline=None, max_examples=60)
def test_figures_are_sklearns(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = np.array(pairs).T
    found = scored(truth, predicted)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(y_pred contains classes not in y_true|A single label)", UserWarning)
        expected = {
            "ua": balanced_accuracy_score(truth, predicted),
            "wa": accuracy_score(truth, predicted),
            "macro_f1": f1_score(truth, predicted, average="macro"),
        }
    assert {name: found.of(name).value for name in ("ua", "wa", "macro_f1")} == pytest.approx(expected)
    assert np.array_equal(found.confusion, confusion_matrix(truth, predicted, labels=range(4)))
    assert found.shares.sum(1) == pytest.approx((np.array(found.confusion).sum(1) > 0).astype(float))


def test_clips_without_a_class_are_left_out_and_counted() -> None:
    truth, predicted = some_classes()
    more = np.concatenate([truth, [NO_CLASS, 2, NO_CLASS]]), np.concatenate([predicted, [1, NO_CLASS, NO_CLASS]])
    speakers = [f"s{row % 6}" for row in range(90)]
    whole, part = scored(*more, [*speakers, "s7", "s8", "s9"]), scored(truth, predicted, speakers)
    assert (whole.clips, whole.left_out, part.left_out) == (90, 3, 0)
    assert whole.model_dump(exclude={"left_out"}) == part.model_dump(exclude={"left_out"})
    assert whole.told() == "4 classes, 90 clips (3 left out)"
    config = EvaluationConfig()
    assert sample_classes(truth, truth * 0 - 1, classes=CLASSES, speakers=["a"] * 90, config=config) is None


def test_intervals_are_over_speakers_who_differ() -> None:
    """Speakers that are all right or all wrong: clips drawn one by one would seem much surer."""
    truth = np.tile([0, 1], 60)
    right = np.repeat([True, False] * 5, 12)
    predicted = np.where(right, truth, 1 - truth)
    by_speaker = scored(truth, predicted, [f"s{row // 12}" for row in range(120)])
    by_clip = scored(truth, predicted, ["one"] * 120)
    assert (by_speaker.resampled, by_clip.resampled) == ("speakers", "clips")
    assert by_speaker.ua.value == by_clip.ua.value == 0.5
    widths = [one.ua.high - one.ua.low for one in (by_speaker, by_clip) if one.ua.high and one.ua.low]
    assert widths[0] > 2 * widths[1]
    assert scored(truth, predicted, ["one"] * 120, seed=0) == by_clip


def test_the_interval_of_a_difference_is_paired() -> None:
    truth, predicted = some_classes()
    speakers = [f"s{row % 6}" for row in range(90)]
    better = np.where(np.arange(90) % 9 == 0, truth, predicted)
    one, other = (
        sample_classes(truth, each, classes=CLASSES, speakers=speakers, config=CONFIG) for each in (better, predicted)
    )
    assert one is not None
    assert other is not None
    difference = one.minus(other)["wa"]
    assert difference.value == pytest.approx((better == truth).mean() - (predicted == truth).mean())
    assert difference.low is not None
    assert difference.low >= 0  # nowhere worse, on no resample
    assert {one.value for one in other.minus(other).values()} == {0.0}


def test_recall_of_a_single_speakers_class_has_no_interval() -> None:
    """Each resample would draw all its clips, or none."""
    truth = np.repeat([0, 1], 30)
    predicted = np.where(np.arange(60) % 3 == 0, 1 - truth, truth)
    one_alone = ["alone"] * 30 + [f"s{row % 5}" for row in range(30)]
    found = scored(truth, predicted, one_alone)
    assert found.resampled == "speakers"
    assert (found.recall["anger"].low, found.recall["anger"].high) == (None, None)
    assert found.recall["anger"].value == pytest.approx(2 / 3)
    assert found.recall["elation"].low is not None
    assert found.ua.low is not None


def test_a_class_that_nobody_has_is_in_no_mean() -> None:
    scores = scored(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 3]))
    assert (scores.recall["sadness"].value, scores.recall["fear"].value) == (None, None)
    assert scores.ua.value == 0.5
    assert set(scores.flat()) == {"ua", "wa", "macro_f1", "recall/anger", "recall/elation"}
