from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient

from cache.store import FeatureStore
from emonet import EmotionPipeline
from emonet.checkpoints import familiarity, load_banks, read_info
from emonet.checkpoints.files import load_bank
from emonet.errors import RequestError
from emonet.tracking import default_uri
from experiments import extract
from experiments.core import Experiment
from experiments.heads import verb as heads
from experiments.heads.classes import class_scores
from experiments.sweep import Trials
from experiments.sweep.trials import _Curve
from tests.tiny import write_encoder

pytestmark = pytest.mark.numeric


@pytest.fixture
def experiment(mini_experiment: Experiment) -> Experiment:
    return mini_experiment


def changed(experiment: Experiment, **changes: object) -> Experiment:
    return Experiment.model_validate({**experiment.model_dump(), **changes})


def test_heads_end_to_end(
    experiment: Experiment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (experiment.runs.parent / "e1.wav").write_bytes(b"")  # left out everywhere
    monkeypatch.setattr(familiarity, "FEWEST", 4)
    extract.run(experiment)
    result = heads.run(experiment)

    assert set(result.rated) == {"anger", "fear"}
    assert result.skipped == ("awe",)
    assert "no expert, since not rated in both the training and the validation split: awe" in capsys.readouterr().err
    assert not list(experiment.folder.glob(".experts-*"))
    assert len(result.targets) == 40
    assert result.clips == {"train": 12, "validation": 4, "test": 19}
    assert set(result.forms) == {"flatten", "statistics", "attention"}
    chosen = max(result.forms, key=lambda form: result.forms[form].validation.pearson.mean.value or -1)
    assert result.input == chosen
    assert result.test == result.forms[chosen].test
    assert list(result.baselines)[:3] == ["median", "mel_ridge", "states_ridge"]
    assert result.test.resampled == "speakers"
    assert result.forms[chosen].validation.resampled == "clips"
    written = json.loads((experiment.folder / "heads.json").read_text())
    assert set(written["test"]["pearson"]) == {"mean", "over", "per_target"}
    assert set(written["test"]["mae"]["per_target"]["anger"]) == {"value", "low", "high"}
    assert written["registered"] == {"name": "emonet-voice", "version": 1}

    bank, info = load_bank(experiment.folder / "heads")
    assert (bank.targets, info.form) == (result.rated, chosen)
    store = FeatureStore.open(experiment.folder / "store.zarr")
    rows = store.rows("train")
    with torch.inference_mode():
        inputs = info.spec.prepare(torch.from_numpy(store.read(rows)), torch.from_numpy(store.speech_frames(rows)))
        medians = np.median(bank(inputs).numpy(), axis=0)
    pipeline = EmotionPipeline.from_folder(experiment.folder / "voice")
    assert pipeline.population is not None
    assert (pipeline.population, pipeline.population.clips) == (info.population, 12)
    assert list(pipeline.population.medians.values()) == pytest.approx(medians, abs=1e-4)
    assert [(one.clips, one.validation_clips) for one in pipeline.familiarity] == [(12, 4)]
    frame = pd.read_parquet(experiment.folder / "heads" / "predictions.parquet")
    assert len(frame) == 19
    error = np.abs(frame["prediction.anger"] - frame["truth.anger"]).mean()
    assert error == pytest.approx(result.test.mae.per_target["anger"].value, abs=1e-6)
    assert (experiment.folder / "voice" / "experts" / "experts.json").is_file()
    assert (experiment.folder / "report" / "index.html").is_file()

    metrics = MlflowClient(default_uri(experiment.runs)).get_run(result.run_id).data.metrics
    assert metrics["test/mae/anger"] == result.test.mae.per_target["anger"].value
    assert {"statistics/val_mae/anger", "attention/train_loss", "baseline/mel_ridge/pearson/mean"} <= set(metrics)

    assert heads.run(experiment) == result
    err = capsys.readouterr().err
    assert "up to date" in err
    heads.show(result)
    table = capsys.readouterr().err
    for label in ("median", "mel_ridge", "states_ridge", "flatten", "statistics", "attention", "Spearman"):
        assert label in table

    monkeypatch.setattr("emonet.baselines.feature_tables.shared_decoders", lambda: pytest.fail("features are kept"))
    again = heads.run(changed(experiment, force=True))
    assert (again.test, again.forms, again.baselines) == (result.test, result.forms, result.baselines)
    assert again.registered.version == 2


@pytest.mark.slow
def test_experts_that_mix_layers_say_which_they_listen_to(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extraction = {"captioner": str(write_encoder(tmp_path / "deeper", encoder_layers=2)), "layers": "all"}
    extraction = {**experiment.extraction.model_dump(), **extraction, "pool": "statistics"}
    layered = changed(experiment, extraction=extraction)
    extract.run(layered)
    mixing = {**experiment.heads.model_dump(), "layers": "mix", "frames": "speech"}
    with pytest.raises(RequestError, match="only statistics of layers can be mixed"):
        heads.run(changed(layered, heads=mixing))
    result = heads.run(changed(layered, heads={**mixing, "inputs": ["statistics"]}))
    heads.show(result)
    assert "layers that matter most: " in capsys.readouterr().err
    bank, info = load_bank(experiment.folder / "heads")
    assert set(info.layer_mix) == {"anger", "fear"}
    assert info.encoder_layers == (1, 2)
    assert bank.first.weight.shape[2] == 4 * 2 * 32
    assert "layers.png" in (experiment.folder / "report" / "index.html").read_text("utf-8")
    assert "| layer mix | layers that matter most" in (experiment.folder / "voice" / "README.md").read_text("utf-8")


@pytest.mark.slow
def test_ensembles_end_to_end(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    extract.run(experiment)
    settings = {**experiment.heads.model_dump(), "inputs": ["statistics"], "calibration": "affine"}
    single = heads.run(changed(experiment, heads=settings))
    assert single.uncertainty is None
    ensemble = changed(experiment, heads={**settings, "ensemble": 3})
    result = heads.run(ensemble)
    assert result.uncertainty is not None
    assert result.uncertainty.members == 3
    assert set(result.uncertainty.per_target) == {"anger", "fear"}
    assert result.uncertainty.mean.spread > 0
    assert result.uncertainty.mean.scaled.test is None, "four validation clips are too few"
    heads.show(result)
    assert "90 % intervals by the spread of 3 experts each hold" in capsys.readouterr().err
    assert json.loads((experiment.folder / "heads.json").read_text())["uncertainty"]["nominal"] == 0.9
    assert MlflowClient(default_uri(experiment.runs)).get_run(result.run_id).data.metrics["uncertainty/spread"] > 0
    frame = pd.read_parquet(experiment.folder / "heads" / "predictions.parquet")
    assert frame["spread.anger"].mean() == pytest.approx(result.uncertainty.per_target["anger"].spread)
    assert (experiment.folder / "voice" / "experts" / "fear.3.safetensors").is_file()
    assert "Uncertainty" in (experiment.folder / "report" / "index.html").read_text("utf-8")

    (bank,) = load_banks(experiment.folder / "heads")  # as `predict` and `compare` load them
    store = FeatureStore.open(experiment.folder / "store.zarr")
    rows = store.rows("test")
    states, lengths = torch.from_numpy(store.read(rows)), torch.from_numpy(store.speech_frames(rows))
    with torch.inference_mode():
        scores = bank.scores(states, lengths).mean(2).numpy()
    predicted = frame[[f"prediction.{target}" for target in result.rated]].to_numpy()
    np.testing.assert_allclose(scores, predicted, atol=1e-4)

    varied = {"space": {"heads.ensemble": {"choices": [1, 3]}}}
    one, three, first = (
        Trials(changed(experiment, sweep=sweep)).run(each, lambda _epoch, _error: None)
        for sweep, each in ((varied, changed(experiment, heads=settings)), (varied, ensemble), ({}, ensemble))
    )
    assert three.values["parameters"] == 3 * one.values["parameters"]
    assert three.values["mae"] == pytest.approx(result.forms["statistics"].validation.mae.mean.value, abs=1e-5)
    assert (first.values["parameters"], first.values["mae"]) == (one.values["parameters"], one.values["mae"])


@pytest.mark.slow
def test_coordinates_give_published_experts_and_all_forms_are_compared(
    experiment: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    extract.run(experiment)
    settings = {**experiment.heads.model_dump(), "inputs": ["flatten"], "features": "principal", "compare_inputs": True}
    leftover = experiment.folder / ".experts-killed"
    leftover.mkdir()
    result = heads.run(changed(experiment, heads=settings))
    heads.show(result)
    shown = capsys.readouterr().err
    assert not leftover.exists()
    assert set(result.forms) == {"flatten", "statistics", "moments", "attention"}
    assert result.forms["flatten"].energy == pytest.approx(1.0, abs=1e-3)
    assert result.forms["statistics"].energy is None
    assert result.input == "flatten", "the others were there to compare"
    assert MlflowClient(default_uri(experiment.runs)).get_run(result.run_id).data.metrics["flatten/energy"] > 0.99
    assert [group.name for group in result.comparison] == ["all", "high arousal"]
    assert list(result.comparison[0].differences) == [
        "statistics - flatten",
        "moments - flatten",
        "attention - flatten",
        "moments - statistics",
        "attention - statistics",
        "attention - moments",
    ]
    for words in ("principal coordinates hold 100.00 % of the energy", "Anger", "high arousal (2)", "best in bold"):
        assert words in shown
    alone = heads.run(changed(experiment, heads={**settings, "compare_inputs": False, "rank": 0.9}))
    assert alone.input == "flatten"
    assert 0.9 <= (alone.forms["flatten"].energy or 0) < 1
    bank, info = load_bank(experiment.folder / "heads")
    store = FeatureStore.open(experiment.folder / "store.zarr")
    rows = store.rows("test")
    with torch.inference_mode():
        features = info.spec.prepare(torch.from_numpy(store.read(rows)), torch.from_numpy(store.speech_frames(rows)))
        scores = bank(features).numpy()
    frame = pd.read_parquet(experiment.folder / "heads" / "predictions.parquet")
    predicted = frame[[f"prediction.{target}" for target in bank.targets]].to_numpy()
    # Coordinates, lifted weights and products of raw states are each rounded to float32.
    assert np.abs(scores - predicted).max() <= 5e-3 * predicted.std()


@pytest.mark.slow
def test_weights_and_memory_for_states_make_another_result_and_memory_does_not(experiment: Experiment) -> None:
    extract.run(experiment)
    quick = {**experiment.heads.model_dump(), "inputs": ["statistics"], "epochs": 1}
    first = heads.run(changed(experiment, heads=quick))
    assert heads.run(changed(experiment, heads={**quick, "memory": 8.0})).run_id == first.run_id
    assert heads.run(changed(experiment, heads={**quick, "states_gib": 1e-6})).run_id != first.run_id
    manifest = experiment.runs.parent / "m.jsonl"
    lines = [json.loads(line) | {"weight": 0.5} for line in manifest.read_text().splitlines()]
    second = heads.run(changed(experiment, heads=quick))
    assert set(second.rated) == {"anger", "fear"}
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert heads.run(changed(experiment, heads=quick)).run_id != second.run_id
    manifest.write_text("".join(json.dumps(line | {"weight.fear": 0}) + "\n" for line in lines))
    assert heads.run(changed(experiment, heads=quick)).rated == ("anger",), "what weighs nothing cannot be learned"


def labelled(experiment: Experiment, **changes: object) -> Experiment:
    """The experiment with a class for each clip of its manifest, by its pitch, in place of its scores."""
    manifest = experiment.runs.parent / "labels.jsonl"
    rows = [json.loads(line) for line in (experiment.runs.parent / "m.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        row["mood"] = ("low", "Middle one", "high", None)[number % 4]
        for name in ("anger", "fear", "awe"):
            row.pop(name, None)
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    heads_config = {**experiment.heads.model_dump(), "inputs": ["statistics"], "loss": "mse", "epochs": 30}
    return changed(experiment, corpus=f"manifest:{manifest}#mood", heads=heads_config, **changes)


@pytest.mark.slow
def test_experts_of_classes_are_told_apart_by_argmax(
    experiment: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = labelled(experiment, targets="classes")
    extract.run(experiment)
    result = heads.run(experiment)
    assert result.rated == ("high", "low", "middle_one")
    scores = result.classes
    assert scores is not None
    assert scores.classes == {"high": "high", "low": "low", "middle_one": "Middle one"}
    assert (scores.clips, scores.left_out, scores.resampled) == (15, 5, "speakers")
    assert np.array(scores.confusion).sum(1).tolist() == [5, 5, 5]
    assert result.forms["statistics"].classes == scores
    assert set(result.baseline_classes) >= {"majority", "mel_ridge", "states_ridge"}
    assert result.baseline_classes["majority"].ua.value == pytest.approx(1 / 3)
    frame = pd.read_parquet(result.experts / "predictions.parquet")
    known = frame[frame["label"].notna()]
    predicted = known[[f"prediction.{target}" for target in result.rated]].to_numpy().argmax(1)
    right = predicted == known["label"].map({"high": 0, "low": 1, "Middle one": 2}).to_numpy()
    assert scores.wa.value == pytest.approx(right.mean())
    assert read_info(result.experts).classes == {"high": "high", "low": "low", "Middle one": "middle_one"}

    metrics = MlflowClient(default_uri(experiment.runs)).get_run(result.run_id).data.metrics
    assert metrics["test/ua"] == scores.ua.value
    assert 0 <= metrics["statistics/val_ua"] <= 1
    assert metrics["baseline/majority/ua"] == pytest.approx(1 / 3)
    assert metrics["test/recall/middle_one"] == scores.recall["middle_one"].value
    page = (experiment.folder / "report" / "index.html").read_text()
    assert "classes.png" in page
    assert "3 classes, 15 clips (5 left out)" in page
    assert "Middle one" in (experiment.folder / "voice" / "README.md").read_text()
    heads.show(result)
    assert "3 classes, 15 clips (5 left out), by argmax" in capsys.readouterr().err

    with pytest.raises(RequestError, match=r"(?s)for other targets.*--targets classes, as the store"):
        heads.run(changed(experiment, targets="emotions"))

    trials = Trials(experiment)
    outcome = trials.run(experiment, lambda _epoch, _error: None)
    assert 0 <= outcome.values["ua"] <= 1
    assert outcome.values["ua"] == class_scores_of_validation(experiment, trials)


def class_scores_of_validation(experiment: Experiment, trials: Trials) -> float:
    """UA on validation clips of experts that are trained once more."""
    trained = trials._train(experiment, "statistics", _Curve(trials._data.rated, lambda _epoch, _error: None))
    scores = class_scores(trials._data, "validation", trained.predictions["validation"], experiment)
    assert scores is not None
    assert scores.ua.value is not None
    return scores.ua.value


@pytest.mark.slow
def test_a_mapping_file_scores_labels_by_prototypes(experiment: Experiment, tmp_path: Path) -> None:
    file = tmp_path / "prototypes.yaml"
    file.write_text("low: sadness\nhigh: anger\nMiddle one: null\n")
    experiment = labelled(experiment, labels=str(file))
    extract.run(experiment)
    result = heads.run(experiment)
    assert set(result.rated) == {"anger", "sadness"}
    assert result.classes is not None
    assert set(result.classes.classes.values()) == {"low", "high"}
    assert (result.classes.clips, result.classes.left_out) == (10, 10)
    assert FeatureStore.open(experiment.folder / "store.zarr").classes == {
        "low": "sadness", "high": "anger", "Middle one": None
    }  # fmt: skip
    assert heads.run(experiment).run_id == result.run_id
    both = {**experiment.heads.model_dump(), "inputs": ["statistics", "attention"], "select_by": "ua"}
    by_ua = heads.run(changed(experiment, heads=both))
    accuracy = {form: one.validation_classes.ua.value for form, one in by_ua.forms.items() if one.validation_classes}
    assert by_ua.input == max(accuracy, key=accuracy.__getitem__), "the first of equals"
    assert "<td>validation UA</td>" in (experiment.folder / "report" / "index.html").read_text()
    file.write_text("low: sadness\nhigh: elation\n")
    with pytest.raises(RequestError, match="corpus"):
        heads.run(experiment)
    with pytest.raises(RequestError, match="leave out one of the two"):
        heads.run(changed(experiment, targets="classes"))


def test_without_a_store_it_says_to_extract(experiment: Experiment) -> None:
    with pytest.raises(RequestError, match=r"(?s)'extract' of experiment 'mini' has not finished.*emonet extract"):
        heads.run(experiment)


@pytest.mark.parametrize("what", ["corpus", "captioner"])
def test_a_store_of_something_else_is_refused_before_any_work(experiment: Experiment, what: str) -> None:
    extract.run(experiment)
    if what == "corpus":
        manifest = Path(experiment.corpus.removeprefix("manifest:"))
        manifest.write_text(manifest.read_text().replace('"anger": 3', '"anger": 2'))
    else:
        write_encoder(Path(str(experiment.extraction.captioner)), seed=1)
    with pytest.raises(RequestError, match=rf"(?s)extracted from another {what}.*expected.*found.*emonet extract"):
        heads.run(experiment)
    assert not (experiment.folder / "heads").exists()


@pytest.mark.parametrize(("without", "message"), [("test", "no test clips"), ("validation", "no target is rated")])
def test_a_corpus_that_nothing_can_be_learned_from(experiment: Experiment, without: str, message: str) -> None:
    manifest = Path(experiment.corpus.removeprefix("manifest:"))
    lines = [line for line in manifest.read_text().splitlines() if f'"split": "{without}"' not in line]
    manifest.write_text("\n".join(lines) + "\n")
    extract.run(experiment)
    with pytest.raises(RequestError, match=message):
        heads.run(experiment)


def test_without_classes_no_form_is_chosen_by_ua(experiment: Experiment) -> None:
    extract.run(experiment)
    by_ua = changed(experiment, heads={**experiment.heads.model_dump(), "select_by": "ua"})
    with pytest.raises(RequestError, match=r"(?s)heads.select_by ua is undefined: there are no classes.*--labels FILE"):
        heads.run(by_ua)
