from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from emonet import plots
from emonet.configs import EvaluationConfig
from emonet.evaluation import Scores, evaluate

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
