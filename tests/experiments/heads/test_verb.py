from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient

from cache.store import FeatureStore
from emonet.checkpoints.files import load_bank
from emonet.errors import RequestError
from emonet.tracking import default_uri
from experiments import extract
from experiments.core import Experiment
from experiments.heads import verb as heads
from tests.tiny import write_encoder

pytestmark = pytest.mark.numeric


@pytest.fixture
def experiment(mini_experiment: Experiment) -> Experiment:
    return mini_experiment


def changed(experiment: Experiment, **changes: object) -> Experiment:
    return Experiment.model_validate({**experiment.model_dump(), **changes})


def test_heads_end_to_end(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    (experiment.runs.parent / "e1.wav").write_bytes(b"")  # left out everywhere
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
    assert set(result.baselines) >= {"median", "mel_ridge"}
    assert result.test.resampled == "speakers"
    assert result.forms[chosen].validation.resampled == "clips"
    written = json.loads((experiment.folder / "heads.json").read_text())
    assert set(written["test"]["pearson"]) == {"mean", "over", "per_target"}
    assert set(written["test"]["mae"]["per_target"]["anger"]) == {"value", "low", "high"}
    assert written["registered"] == {"name": "emonet-voice", "version": 1}

    bank, info = load_bank(experiment.folder / "heads")
    assert (bank.targets, info.form) == (result.rated, chosen)
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
    for label in ("median", "mel_ridge", "flatten", "statistics", "attention", "Spearman"):
        assert label in table

    again = heads.run(changed(experiment, force=True))
    assert (again.test, again.forms, again.baselines) == (result.test, result.forms, result.baselines)
    assert again.registered.version == 2


@pytest.mark.slow
def test_coordinates_give_published_experts_and_all_forms_are_compared(
    experiment: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    extract.run(experiment)
    settings = {**experiment.heads.model_dump(), "inputs": ["flatten"], "features": "principal", "compare_inputs": True}
    leftover, other = (experiment.folder / f".experts-{stage}-killed" for stage in ("heads", "codecs"))
    leftover.mkdir()
    other.mkdir()
    result = heads.run(changed(experiment, heads=settings))
    heads.show(result)
    shown = capsys.readouterr().err
    assert not leftover.exists()
    assert other.exists()
    assert set(result.forms) == {"flatten", "statistics", "attention"}
    assert result.forms["flatten"].energy == pytest.approx(1.0, abs=1e-3)
    assert result.forms["statistics"].energy is None
    assert result.input == "flatten", "the others were there to compare"
    assert MlflowClient(default_uri(experiment.runs)).get_run(result.run_id).data.metrics["flatten/energy"] > 0.99
    assert [group.name for group in result.comparison] == ["all", "high arousal"]
    assert list(result.comparison[0].differences) == [
        "statistics - flatten",
        "attention - flatten",
        "attention - statistics",
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
