from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from matplotlib.image import imread

from emonet.configs import EvaluationConfig
from emonet.evaluation import SpreadScores, ensemble_figures, evaluate
from emonet.targets import EMOTIONS
from experiments.core import Experiment
from experiments.heads.layers import LayerWeights
from experiments.heads.report import Findings, write_report

TARGETS = ("fear", "sadness", "anger")


class Page(HTMLParser):
    """Collects what a page refers to and says."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[str] = []
        self.links: list[str] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "img":
            self.images.append(found["src"] or "")
        self.links += [value for key, value in attrs if key in {"href", "src"} and value and "://" in value]

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_shows_figures_and_pictures_and_needs_no_network(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, (40, 3)).astype(np.float32)
    config = EvaluationConfig(resamples=20)
    speakers = [f"s{row % 6}" for row in range(40)]

    def scores(predictions: np.ndarray):
        return evaluate(truth, predictions, targets=TARGETS, speakers=speakers, config=config)

    predictions = (truth + rng.normal(0, 1, truth.shape)).astype(np.float32)
    rows = {"experts, flatten": scores(predictions), "median": scores(np.ones_like(truth)), "mel_ridge": scores(truth)}
    spread = np.full(truth.shape, 0.5)
    seen = SpreadScores(truth, predictions, spread, 3 * spread)
    uncertainty = ensemble_figures(seen, seen, EMOTIONS.subset(TARGETS), members=5, nominal=0.9)
    experiment = Experiment(name="toy", description="for <tests>", runs=tmp_path, evaluation=config)
    findings = Findings(
        rows,
        EMOTIONS.subset(TARGETS),
        truth,
        predictions,
        note="a stand-in",
        facts={"Corpus": "a & b"},
        layers=LayerWeights((2, 4), {"fear": (0.25, 0.75), "sadness": (0.5, 0.5), "anger": (0.01, 0.99)}),
        uncertainty=uncertainty,
        remarks=["the experts lose to <ridge>"],
    )
    folder = write_report(experiment, findings, experiment.folder / "report")
    page = Page()
    page.feed((folder / "index.html").read_text("utf-8"))
    assert page.links == []
    assert sorted(page.images) == ["confusion.png", "layers.png", "mae.png", "pearson.png", "scatter.png"]
    assert all(imread(folder / image).ndim == 3 for image in page.images)
    for text in (
        "for <tests>",
        "a stand-in",
        "a & b",
        "0.99",
        "Each target has 5 experts",
        "the experts lose to <ridge>.",
        "mel_ridge is a ridge",
        "Sadness",
        f"{rows['median'].mae.mean}",
    ):
        assert text in page.words
    assert write_report(experiment, findings, experiment.folder / "report") == folder  # again, over the old one
