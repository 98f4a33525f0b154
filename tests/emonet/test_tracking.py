from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from emonet.errors import EmonetError
from emonet.tracking import default_uri, start_run


@pytest.fixture
def uri(runs: Path) -> str:
    return default_uri(runs)


def started(runs: Path, parent: str | None = None, **config: object):
    return start_run(
        default_uri(runs),
        experiment="toy",
        name="pretrain",
        artifacts=runs / "mlartifacts",
        config=config,
        tags={"a": "b"},
        parent=parent,
    )


def test_the_environment_names_another_server(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_uri(runs).endswith("runs/mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert default_uri(runs) == "http://127.0.0.1:9"


def test_a_run_leaves_no_trace_in_the_environment(runs: Path) -> None:
    with started(runs):
        pass
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_config_is_logged_flat_and_whole(runs: Path, uri: str) -> None:
    with started(runs, captioner={"epochs": 3, "model": "x"}, inputs=["a", "b"]) as run:
        run.metrics({"val/loss": 0.5}, step=2)
        run.text("hello", "samples/epoch-1.txt")
    found = MlflowClient(tracking_uri=uri).get_run(run.id)
    assert found.data.params == {"captioner.epochs": "3", "captioner.model": "x", "inputs": '["a", "b"]'}
    assert found.data.metrics == {"val/loss": 0.5}
    assert found.info.status == "FINISHED"
    assert {f.path for f in MlflowClient(tracking_uri=uri).list_artifacts(run.id)} == {
        "config.json",
        "samples",
    }


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_run_that_ends_early_says_so(runs: Path, uri: str, error: type[BaseException], status: str) -> None:
    with pytest.raises(error), started(runs) as run:
        raise error
    assert MlflowClient(tracking_uri=uri).get_run(run.id).info.status == status


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database")
    message = r"(?s)tracking server cannot be used.*unset it to use runs/mlflow\.db"
    with pytest.raises(EmonetError, match=message), started(tmp_path):
        pass


@pytest.mark.slow
def test_runs_that_start_together_share_one_new_database(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from emonet.tracking import *; from emonet.tracking import start_run\n"
        f"runs = Path({str(tmp_path)!r})\n"
        "with start_run(default_uri(runs), experiment='toy', name='x', artifacts=runs / 'a', config={}, tags={}): pass"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    client = MlflowClient(tracking_uri=default_uri(tmp_path))
    found = client.get_experiment_by_name("toy")
    assert found is not None
    assert len(client.search_runs([found.experiment_id])) == 2


def test_the_git_revision_is_recorded(runs: Path, uri: str) -> None:
    with started(runs) as run:
        pass
    tags = MlflowClient(tracking_uri=uri).get_run(run.id).data.tags
    assert len(tags["mlflow.source.git.commit"]) == 40
    assert tags["a"] == "b"


def test_a_run_below_another_one_bears_its_id(runs: Path, uri: str) -> None:
    with started(runs) as parent, started(runs, parent=parent.id) as child:
        child.curves({"val_mae": [0.5, 0.4], "loss": [1.0]})
    found = MlflowClient(tracking_uri=uri)
    assert found.get_run(child.id).data.tags["mlflow.parentRunId"] == parent.id
    assert [(point.step, point.value) for point in found.get_metric_history(child.id, "val_mae")] == [
        (0, 0.5),
        (1, 0.4),
    ]
