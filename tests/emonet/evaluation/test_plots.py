from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from emonet.configs import EvaluationConfig
from emonet.evaluation import Scores, calibration_figure, evaluate, plots, sample_classes
from emonet.evaluation.calibration_bins import reliability
from emonet.targets import ATTRIBUTES, EMOTIONS, PUBLISHED, QUALITY, TargetSpec, class_targets

TARGETS = ("anger", "fear", "sadness")


@pytest.fixture
def truth() -> np.ndarray:
    scores = np.random.default_rng(0).integers(0, 5, (30, 3)).astype(np.float32)
    scores[0] = np.nan  # a clip that nobody rated
    return scores


@pytest.fixture
def predictions() -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 4, (30, 3)).astype(np.float32)


@pytest.fixture
def rows(truth: np.ndarray, predictions: np.ndarray) -> dict[str, Scores]:
    config = EvaluationConfig(resamples=20)
    speakers = [f"s{row % 6}" for row in range(30)]
    constant = np.ones_like(predictions)
    return {
        "experts": evaluate(truth, predictions, targets=TARGETS, speakers=speakers, config=config),
        "median": evaluate(truth, constant, targets=TARGETS, speakers=speakers, config=config),
    }


def drawn(path: Path) -> np.ndarray:
    """The picture's pixels; a blank one has a single colour."""
    pixels = imread(path)
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 10
    return pixels


def test_scores(tmp_path: Path) -> None:
    scores = {"anger": 3.2, "fear": 1.0, "sadness": -0.1}
    plots.scores_figure({"a.wav": scores}, tmp_path / "one.png")
    plots.scores_figure({"a.wav": scores, "b.wav": scores}, tmp_path / "two.png", top=2)
    assert drawn(tmp_path / "two.png").shape[0] > drawn(tmp_path / "one.png").shape[0] * 0.9


@pytest.mark.parametrize("metric", ["pearson", "mae"])
def test_metric(tmp_path: Path, rows: dict[str, Scores], metric: plots.MetricName) -> None:
    plots.metric_figure(rows, metric, tmp_path / "two.png")
    plots.metric_figure({"experts": rows["experts"]}, metric, tmp_path / "one.png")
    two, one = drawn(tmp_path / "two.png"), drawn(tmp_path / "one.png")
    assert two.shape != one.shape or (two != one).any()


def test_a_clip_that_nobody_rated_is_not_drawn(tmp_path: Path, truth: np.ndarray, predictions: np.ndarray) -> None:
    pictures = []
    for first in (0, 1, 2):  # all, without the clip that nobody rated, without another one
        path = tmp_path / f"{first}.png"
        plots.confusion_figure(truth[first:], predictions[first:], TARGETS, path)
        pictures.append(drawn(path))
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[1], pictures[2])


def test_scatter_bears_missing_scores_and_shows_predictions(
    tmp_path: Path, truth: np.ndarray, predictions: np.ndarray
) -> None:
    pictures = []
    for name, values in (("one", predictions), ("other", predictions[::-1])):
        plots.scatter_figure(truth, values, TARGETS, tmp_path / f"{name}.png")
        pictures.append(drawn(tmp_path / f"{name}.png"))
    assert not np.array_equal(*pictures)


def every_figure(folder: Path, truth: np.ndarray, predictions: np.ndarray, targets: tuple[str, ...], spec: TargetSpec):
    """Draw all that a report of these clips would show; a blank picture with words is one, too."""
    config = EvaluationConfig(resamples=5)
    names = [f"s{row % 6}" for row in range(len(truth))]
    scores = evaluate(truth, predictions, targets=targets, speakers=names, config=config)
    for metric in ("pearson", "mae"):
        plots.metric_figure({"a $1$": scores, "b": scores}, metric, folder / f"{metric}.png", spec=spec)
    plots.scatter_figure(truth, predictions, targets, folder / "scatter.png", spec=spec)
    plots.confusion_figure(truth, predictions, targets, folder / "confusion.png", spec=spec)
    found = reliability(truth, predictions, scale=spec.scale)
    calibration_figure({"a": found, "b": found}, folder / "calibration.png", scale=spec.scale)


@pytest.mark.parametrize(
    ("clips", "count", "given", "spec"),
    [
        (1, 1, "nothing", EMOTIONS),
        (7, 3, "nothing", ATTRIBUTES),
        (7, 3, "lowest", QUALITY),
        (7, 1, "equal", EMOTIONS),
        (7, 3, "one", ATTRIBUTES),
        (1, 3, "some", EMOTIONS),
        (7, 3, "some", ATTRIBUTES),
    ],
)
def test_every_figure_bears_every_corpus(tmp_path: Path, clips: int, count: int, given: str, spec: TargetSpec) -> None:
    targets = spec.ids[:count]
    spec = spec.subset(targets)
    rng = np.random.default_rng(0)
    truth = {
        "nothing": np.full((clips, count), np.nan),
        "lowest": np.tile(spec.low, (clips, 1)),
        "equal": np.full((clips, count), 2.0),
        "one": np.where(np.arange(clips * count).reshape(clips, count) == 0, 2.0, np.nan),
        "some": rng.uniform(spec.low, spec.high, (clips, count)),
    }[given].astype(np.float32)
    predictions = rng.uniform(spec.low, spec.high, (clips, count)).astype(np.float32)
    every_figure(tmp_path, truth, predictions, targets, spec)
    assert len(list(tmp_path.glob("*.png"))) == 5
    if given in {"nothing", "lowest"}:
        plots.confusion_figure(truth, predictions, targets, tmp_path / "again.png", spec=spec)
        assert imread(tmp_path / "again.png").shape[:2] == (156, 650), "a strip that says why there is nothing"


def test_without_targets_there_is_nothing_to_draw(tmp_path: Path) -> None:
    none = np.empty((3, 0), np.float32)
    plots.scatter_figure(none, none, (), tmp_path / "a.png")
    plots.confusion_figure(none, none, (), tmp_path / "b.png")
    scores = evaluate(none, none, targets=(), speakers=["a"] * 3, config=EvaluationConfig(resamples=5))
    plots.metric_figure({"a": scores}, "mae", tmp_path / "c.png")
    assert len(list(tmp_path.glob("*.png"))) == 3


@pytest.mark.parametrize(
    "scores",
    [
        {"valence": -1.5, "arousal": 2.0, "age": 7.0, "overall_quality": 3.2},
        {"anger": 3.0, "fear": -0.2, "valence": -4.0},
        {"anger": 4.4},
    ],
    ids=["attributes", "both", "one"],
)
def test_scores_of_any_scale_are_drawn(tmp_path: Path, scores: dict[str, float]) -> None:
    assert (
        plots.scores_figure({"a $x$.wav": scores, "\udce4rger 感情.wav": scores}, tmp_path / "a.png", spec=PUBLISHED)
        == 2
    )
    assert drawn(tmp_path / "a.png").shape[0] > 300


def test_a_picture_holds_as_many_recordings_as_an_image_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = {f"{number}.wav": {"anger": 1.0} for number in range(500)}
    monkeypatch.setattr(plots, "TALLEST", 5.0)
    assert plots.scores_figure(many, tmp_path / "a.png") == 3
    assert drawn(tmp_path / "a.png").shape[0] == 3 * 208
    assert plots.scores_figure({}, tmp_path / "b.png") == 0
    assert plots.scores_figure({"a.wav": {}}, tmp_path / "c.png") == 0
    assert (tmp_path / "b.png").is_file()


def test_the_confusion_of_classes_shows_which_are_taken_for_which(tmp_path: Path) -> None:
    given, speakers = np.arange(60) % 3, [f"s{row % 6}" for row in range(60)]
    names = {"anger": "$ang$ry", "fear": "fearful", "sadness": "sad"}
    pictures = []
    for number, predicted in enumerate((given, (given + 1) % 3)):
        sampled = sample_classes(
            given, predicted, classes=names, speakers=speakers, config=EvaluationConfig(resamples=5)
        )
        assert sampled is not None
        scores = sampled.scores()
        plots.class_confusion_figure(scores, tmp_path / f"{number}.png")
        pictures.append(drawn(tmp_path / f"{number}.png"))
    assert not np.array_equal(*pictures)
    wordy = scores.model_copy(update={"classes": {target: f"{name} " * 30 for target, name in scores.classes.items()}})
    plots.class_confusion_figure(wordy, tmp_path / "wordy.png")  # matplotlib warns where words leave no room
    assert max(drawn(tmp_path / "wordy.png").shape) < 1000


def test_names_of_any_length_leave_room(tmp_path: Path, truth: np.ndarray, predictions: np.ndarray) -> None:
    labels = [f"a class that {word} described in a whole sentence" for word in ("one", "$two$", "three")]
    spec = TargetSpec(tuple(class_targets(labels).values()))
    speakers = [f"s{row % 6}" for row in range(30)]
    config = EvaluationConfig(resamples=2)
    rows = {"experts": evaluate(truth, predictions, targets=spec.ids, speakers=speakers, config=config)}
    scored = dict(zip(spec.ids, (0.9, 0.5, 0.1), strict=True))
    plots.metric_figure(rows, "mae", tmp_path / "mae.png", spec=spec)
    plots.scatter_figure(truth, predictions, spec.ids, tmp_path / "scatter.png", spec=spec)
    plots.confusion_figure(truth, predictions, spec.ids, tmp_path / "confusion.png", spec=spec)
    plots.scores_figure({"a.wav": scored}, tmp_path / "scores.png", spec=spec)
    for name in ("mae", "scatter", "confusion", "scores"):
        drawn(tmp_path / f"{name}.png")
    assert plots.labelled(labels[0]) == "a class that on…a whole sentence"
