"""`emonet sweep` end to end with real training, on an experiment of seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from emonet.errors import RequestError
from emonet.tracking import default_uri
from experiments import extract
from experiments.core import Experiment, load
from experiments.sweep import Study, plan_of
from experiments.sweep import verb as sweep
from experiments.sweep.verb import SweepResult
from tests.experiments.sweep.fakes import search_here

SPACE = {
    "heads.learning_rate": {"low": "1e-4", "high": "1e-2", "log": True},
    "heads.inputs": {"choices": [["statistics"], ["attention"]]},
}


def changed(experiment: Experiment, **settings: Any) -> Experiment:
    return Experiment.model_validate({**experiment.model_dump(), "sweep": {"space": SPACE, **settings}})


@pytest.mark.slow
def test_sweep_end_to_end(
    mini_experiment: Experiment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    experiment = changed(mini_experiment, trials=3, epochs=2)
    extract.run(experiment)
    result = sweep.run(experiment)
    sweep.show(result)
    said = capsys.readouterr().err
    assert (result.finished, result.failed, result.complete) == (3, 0, True)
    assert result.best is not None
    assert f"best: trial {result.best.number}, mae" in said
    assert "registered as emonet-voice version 1 (@candidate)" in said
    client = MlflowClient(default_uri(experiment.runs))
    assert client.get_model_version_by_alias("emonet-voice", "candidate").run_id == result.final_run
    folder = experiment.folder / "sweep"
    final = json.loads((folder / "heads.json").read_text())
    assert result.test["mae"] == final["test"]["mae"]["mean"]["value"]
    assert final["run_id"] == result.final_run
    assert (folder / "voice").is_dir()
    assert not (experiment.folder / "heads").exists(), "the experiment's own experts are left alone"

    chosen = load(str(result.settings))
    assert (chosen.name, chosen.runs, chosen.corpus) == ("mini", experiment.runs, experiment.corpus)
    assert chosen.heads.inputs == tuple(result.best.params["heads.inputs"])
    assert chosen.heads.learning_rate == result.best.params["heads.learning_rate"]
    assert chosen.heads.epochs == experiment.heads.epochs, "trials had fewer"

    children = client.search_runs(
        [client.get_run(result.run_id).info.experiment_id], f"tags.`mlflow.parentRunId` = '{result.run_id}'"
    )
    assert sorted(run.data.tags["stage"] for run in children) == ["heads", "trial", "trial", "trial"]
    assert {one.path for one in client.list_artifacts(result.run_id)} >= {"config.json", "study", "best.yaml"}

    assert sweep.run(experiment) == result
    assert "up to date" in capsys.readouterr().err
    monkeypatch.setattr("experiments.sweep.verb.search", search_here)
    more = sweep.run(changed(mini_experiment, trials=4, epochs=2))
    assert (more.study, more.finished, more.run_id) == (result.study, 4, result.run_id)
    assert SweepResult.model_validate_json((experiment.folder / "sweep.json").read_text()) == more


@pytest.mark.slow
def test_a_sweep_that_joins_leaves_the_best_trial_to_where_the_study_was_created(
    mini_experiment: Experiment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = changed(mini_experiment, trials=1, epochs=1)
    extract.run(experiment)
    monkeypatch.setattr("experiments.sweep.verb.search", lambda *_: None)
    subject = sweep._heads(experiment)
    study = Study(plan_of(experiment, sweep.study_name(experiment, subject.comparable)))
    study.note("home", "elsewhere:/data/runs/mini/sweep")
    attempt = study.attempt()
    assert attempt is not None
    attempt.complete({"mae": 0.5}, {})
    result = sweep.run(experiment)
    assert (result.complete, result.registered, result.finished) == (False, None, 1)
    said = capsys.readouterr().err
    assert "elsewhere:/data/runs/mini/sweep. To train it here: --final yes" in said
    assert not (experiment.folder / "sweep.json").exists()


def test_without_a_store_it_says_to_extract(mini_experiment: Experiment) -> None:
    with pytest.raises(RequestError, match=r"(?s)'extract' of experiment 'mini' has not finished.*emonet extract"):
        sweep.run(changed(mini_experiment))


def test_a_captioner_on_several_devices_is_no_trial(mini_experiment: Experiment) -> None:
    several = {**mini_experiment.model_dump()["captioner"], "devices": 2}
    space = {"captioner.learning_rate": SPACE["heads.learning_rate"]}
    experiment = Experiment.model_validate(
        {**mini_experiment.model_dump(), "captioner": several, "sweep": {"space": space, "stage": "pretrain"}}
    )
    with pytest.raises(RequestError, match=r"(?s)a trial of a sweep trains on one device.*--captioner.devices 2"):
        sweep.run(experiment)
