from __future__ import annotations

import base64
from functools import partial
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.image import imread

from emonet.configs import EvaluationConfig
from emonet.evaluation import Comparison, Contender, compare, comparison_plots, scatter_figure

TARGETS = ("anger", "fear", "sadness")


@pytest.fixture
def truth() -> np.ndarray:
    scores = np.random.default_rng(0).integers(0, 5, (60, 3)).astype(np.float32)
    scores[:, 2] = np.nan  # nobody rated it
    return scores


@pytest.fixture
def comparison(truth: np.ndarray) -> Comparison:
    rng = np.random.default_rng(1)
    good, bad = (np.nan_to_num(truth) + rng.normal(0, noise, truth.shape) for noise in (0.2, 1.5))
    contenders = [Contender("good $a$", good), Contender("b" * 60, bad)]
    speakers = [f"s{row % 15}" for row in range(60)]
    return compare(
        truth, contenders, targets=TARGETS, speakers=speakers, config=EvaluationConfig(resamples=20), scale=(0.0, 4.0)
    )


def svg(uri: str) -> str:
    kind, _, data = uri.partition(",")
    assert kind == "data:image/svg+xml;base64"
    return base64.b64decode(data).decode()


def test_differences_are_sorted_and_marked(tmp_path: Path, comparison: Comparison) -> None:
    pair = comparison.pairs[0]
    for name, each in (("forth", pair), ("back", pair.swapped())):
        comparison_plots.differences_figure(each, tmp_path / f"{name}.png")
    forth, back = (imread(tmp_path / f"{name}.png") for name in ("forth", "back"))
    assert forth.shape != back.shape or (forth != back).any()
    text = svg(comparison_plots.embedded(partial(comparison_plots.differences_figure, pair)))
    words = [each.text for each in ET.fromstring(text).iter("{http://www.w3.org/2000/svg}text")]
    assert "← good $a$ is better" in words, "dollar signs are no mathematics"
    assert f"{'b' * 15}…{'b' * 16} is better →" in words, "long names are shortened"
    assert {"Anger", "Fear", "MEAN"} <= set(words)
    assert "Sadness" not in words, "nobody rated it"


def test_pictures_follow_light_and_dark_and_are_the_same_each_time(comparison: Comparison) -> None:
    draw = partial(comparison_plots.calibration_figure, comparison.reliability, scale=(0.0, 4.0))
    text = svg(comparison_plots.embedded(draw))
    assert "prefers-color-scheme:dark" in text
    for light, dark in comparison_plots.DARK.items():
        assert text.count(light) == 1, "in the definition of the variable alone"
        assert text.count(dark) == 1
    ET.fromstring(text)
    assert svg(comparison_plots.embedded(draw)) == text
    assert "slope" in text


def test_four_models_are_four_panels(tmp_path: Path, comparison: Comparison) -> None:
    found = comparison.reliability["good $a$"]
    flat = found.model_copy(update={"slope": None, "intercept": None})
    shapes = []
    for count in (3, 4):
        rows = {f"model {number}": flat for number in range(count)}
        comparison_plots.calibration_figure(rows, tmp_path / "four.png", scale=(0.0, 4.0))
        shapes.append(imread(tmp_path / "four.png").shape)
    assert shapes[1][0] == 2 * shapes[0][0], "a second line, whose other places stay empty"


def test_many_points_do_not_make_a_large_file() -> None:
    rng = np.random.default_rng(0)
    truth, predictions = rng.uniform(0, 4, (2, 5000, 3)).astype(np.float32)
    uri = comparison_plots.embedded(lambda file: scatter_figure(truth, predictions, TARGETS, file))
    assert len(uri) < 1_000_000, "15,000 points as vectors would be several MB"
    assert "data:image/png;base64" in svg(uri)


def test_other_scripts_are_drawn_by_the_browser(comparison: Comparison) -> None:
    found = comparison.reliability["good $a$"]
    draw = partial(comparison_plots.calibration_figure, {"感情 <x> & y": found}, scale=(0.0, 4.0))
    assert "感情 &lt;x&gt; &amp; y" in svg(comparison_plots.embedded(draw)), "and without a warning"


@pytest.mark.parametrize(("label", "short"), [("short", "short"), ("0123456789", "012…789"), ("1234567", "1234567")])
def test_long_names_lose_their_middle(label: str, short: str) -> None:
    assert comparison_plots.shortened(label, 7) == short
