from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from emonet.checkpoints import Calibration
from emonet.checkpoints.calibration import Curve
from emonet.configs import EvaluationConfig
from emonet.evaluation import Scores, SpreadScores, ensemble_figures, evaluate, sample_classes
from emonet.registry import CardFacts, CorpusFacts, SplitFacts, summary, write_card
from emonet.registry.card import render
from emonet.serving.service import PATHS
from emonet.targets import EMOTIONS, TargetSpec

SPEC = EMOTIONS.subset(["anger", "fear", "sadness"])


def figures(noise: float) -> Scores:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 4, (60, 3))
    truth[:, 1] = 1.0  # sadness: correlations are undefined
    return evaluate(
        truth,
        truth + rng.normal(0, noise, (60, 3)),
        targets=SPEC.ids,
        speakers=[str(clip % 6) for clip in range(60)],
        config=EvaluationConfig(resamples=50, confidence=0.9),
    )


@pytest.fixture(scope="module")
def facts() -> CardFacts:
    corpus = CorpusFacts(
        "manifest:a|b\n.csv",
        "Acted; CC BY.",
        {"de": 50, "": 10},
        {"train": SplitFacts(40, 4, 0.5), "validation": SplitFacts(10, 1, 0.1), "test": SplitFacts(10, 2, 0.125)},
    )
    return CardFacts(
        name='emonet-voice, experiment "mine": 1',
        origin="trained",
        targets=SPEC,
        window_seconds=30.0,
        encoder="openai/whisper-small",
        encoder_digest="ab" * 32,
        corpus=corpus,
        test=figures(0.5),
        baselines={"median": figures(1.5)},
        confidence=0.9,
        settings={"epochs": "60", "hidden": "64|64"},
        fingerprints={"seed": "0"},
    )


def front_matter(card: str) -> dict[str, Any]:
    return dict(yaml.safe_load(card.split("---\n")[1]))


def tables(card: str) -> list[list[str]]:
    """Rows of each table, with their escaped bars gone."""
    found = re.findall(r"(?:^\|.*\|\n)+", card, re.MULTILINE)
    return [[row.replace("\\|", "") for row in table.splitlines()] for table in found]


def test_uncertainty_comes_with_how_often_the_truth_lies_within(facts: CardFacts) -> None:
    assert "Their spread times a factor" not in render(facts)
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, (50, 3)).astype(float)
    seen = SpreadScores(truth, truth + rng.normal(0, 0.5, (50, 3)), np.full((50, 3), 0.1), np.full((50, 3), 0.8))
    told = render(replace(facts, uncertainty=ensemble_figures(seen, seen, SPEC, members=5, nominal=0.9)))
    assert "Each score is the mean of 5 experts that differ in their seed." in told
    within = float((np.abs(seen.predictions - truth) <= 0.8).mean())
    (row,) = [line for line in told.splitlines() if line.startswith("| mean |")]
    assert row.startswith(f"| mean | 0.800 | {within:.2f} | {within:.2f} | ")


def test_front_matter_is_what_hubs_read(facts: CardFacts) -> None:
    head = front_matter(render(facts))
    assert head["language"] == ["de"]
    assert (head["license"], head["library_name"], head["pipeline_tag"]) == ("other", "emonet", "audio-classification")
    assert "datasets" not in head  # hubs link what stands there, and a corpus is none of theirs
    result = head["model-index"][0]["results"][0]
    assert result["dataset"]["name"] == "manifest:a|b\n.csv"
    assert result["dataset"]["split"] == "test"
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert facts.test is not None
    assert values["mae"] == pytest.approx(facts.test.mae.mean.value, abs=1e-4)
    assert set(values) == {"mae", "rmse", "pearsonr", "spearman", "ccc"}


def test_figures_stand_beside_the_baselines_with_intervals(facts: CardFacts) -> None:
    card = render(facts)
    assert facts.test is not None
    mean = facts.test.mae.mean
    assert f"| experts | {mean} |" in card
    assert "90 % bootstrap intervals over speakers" in card
    assert "| median |" in card
    assert "`median` answers each clip" in card
    assert "_ridge" not in card  # only what was measured is explained
    assert "`mel_ridge` is a ridge regression" in render(replace(facts, baselines={"mel_ridge": figures(1.0)}))
    assert "openSMILE" not in card
    licensed = render(replace(facts, baselines={"compare2016_svr": figures(1.0)}))
    assert "`compare2016_svr` is a linear support vector regression on openSMILE's 6,373" in licensed
    assert "research and other non-commercial use only" in licensed
    anger = facts.test.pearson.per_target["anger"].value
    row = next(line for line in card.splitlines() if line.startswith("| anger |"))
    assert f"{anger:.3f}" in row
    assert next(line for line in card.splitlines() if line.startswith("| sadness |")).count("–") == 3
    assert card.rstrip().endswith("</details>")  # each emotion's figures come last, folded away


def test_tables_are_whole(facts: CardFacts) -> None:
    calibration = Calibration(kind="isotonic", curves={"anger": Curve(clips=3, note="few | clips")})
    for card in (render(facts), render(replace(facts, calibration=calibration))):
        found = tables(card)
        assert len(found) == 5
        for rows in found:
            assert len({row.count("|") for row in rows}) == 1, rows
            assert re.fullmatch(r"\|( -+:? \|)+", rows[1]), rows
        assert "\n\n\n\n" not in card


def test_what_it_tells(facts: CardFacts) -> None:
    card = render(facts)
    for told in (
        "article 5(1)(f)", "| test | 10 | 2 | 0.12 |", "de 50, not stated 10", "Acted; CC BY.", "`openai/whisper-small`",
        "30 s of a recording", "ab" * 32, "| seed | 0 |", "Decisions about people", "Apache-2.0", "None: scores are as",
    ):  # fmt: skip
        assert told in card, told
    assert "mean nothing" not in card
    assert facts.corpus is not None
    sandbox = replace(facts, corpus=replace(facts.corpus, name="sandbox"))
    assert "Its scores of human voices mean nothing" in render(sandbox)
    assert "human voices mean nothing" in summary(sandbox)


def test_calibration_is_told(facts: CardFacts) -> None:
    curves = {
        "anger": Curve(predicted=(0, 1), calibrated=(0, 2), clips=90),
        "fear": Curve(clips=3, note="3 rated clips"),
    }
    calibrated = replace(facts, calibration=Calibration(kind="affine", curves=curves))
    assert "a line per target\n(affine), fitted on the validation clips" in render(calibrated)
    assert "Not calibrated: fear (3 rated clips)." in render(calibrated)
    assert "Scores are calibrated (affine)." in summary(calibrated)


def test_examples_can_be_run(facts: CardFacts) -> None:
    blocks = re.findall(r"```(\w+)\n(.*?)```", render(facts), re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python", "python", "bash"]
    for kind, code in blocks:
        if kind == "python":
            compile(code, "card", "exec")
        else:
            assert subprocess.run(["bash", "-n", "-c", code], check=False).returncode == 0
            (path,) = re.findall(r"http://127\.0\.0\.1:5001(/\S+)", code)
            assert path in PATHS


def test_what_is_not_known_is_said(facts: CardFacts) -> None:
    published = CardFacts(
        name="emonet-voice, published experts",
        origin="published",
        targets=TargetSpec((SPEC["anger"],)),
        window_seconds=30.0,
        encoder="laion/BUD-E-Whisper",
        encoder_digest="ab" * 32,
        licence="CC-BY-4.0, if the experts are EmoNet-Voice's: name their authors.",
    )
    card = render(published)
    assert front_matter(card)["license"] == "cc-by-4.0"
    assert "language" not in front_matter(card)
    for told in (
        "not trained here",
        "Not known: the files",
        "None were measured here",
        "Nothing else is known",
        "name their",
    ):
        assert told in card, told
    assert "Training data and figures are not known here." in summary(published)
    assert len(tables(card)) == 1


def test_it_is_written_as_the_folders_readme(facts: CardFacts, tmp_path: Path) -> None:
    assert write_card(tmp_path, facts) == tmp_path / "README.md"
    assert (tmp_path / "README.md").read_text("utf-8") == render(facts)
    assert len(summary(facts)) < 1000


def test_a_card_of_classes_shows_them_as_figures_and_matrix(facts: CardFacts) -> None:
    names = {"anger": "cross|angry", "fear": "fearful"}
    given, speakers = np.tile([0, 1, 1], 20), [f"s{clip % 6}" for clip in range(60)]
    sampled = [
        sample_classes(given, predicted, classes=names, speakers=speakers, config=EvaluationConfig(resamples=20))
        for predicted in (np.where(np.arange(60) % 4 == 0, 0, given), np.ones(60, int))
    ]
    experts, majority = (one.scores() for one in sampled if one is not None)
    with_classes = replace(facts, classes=experts, baseline_classes={"majority": majority})
    card = render(with_classes)
    figures_table, matrix = (table for table in tables(card) if "UA" in table[0] or "given class" in table[0])
    assert figures_table[2].startswith(f"| experts | {experts.ua} | {experts.wa}")
    assert figures_table[3].startswith("| majority | 0.500")
    assert matrix[2] == f"| crossangry | anger | 20 | 0 | {experts.recall['anger']} |"
    assert matrix[3] == f"| fearful | fear | 10 | 30 | {experts.recall['fear']} |"
    head = front_matter(card)
    assert head["metrics"] == ["mae", "pearsonr", "recall", "accuracy", "f1"]
    assert {"type": "recall", "name": "UA, argmax over classes", "value": 0.875} in head["model-index"][0]["results"][
        0
    ]["metrics"]
    assert "UA 0.875" in summary(with_classes)
    assert "UA" not in render(facts)
