from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.cli import cli

from emonet.errors import EmonetError, RequestError
from emonet.tracking import backlog, default_uri, record_run, require_experiment, start_run, taken_up
from emonet.tracking.orphans import owner
from emonet.tracking.relocation import settle


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


def go_away(runs: Path) -> None:
    _rename(runs, "experiments", "metrics")


def come_back(runs: Path) -> None:
    _rename(runs, "experiments", "metrics", back=True)


def _rename(runs: Path, *tables: str, back: bool = False) -> None:
    with closing(sqlite3.connect(runs / "mlflow.db")) as connection:
        for table in tables:
            old, new = (f"{table}_away", table) if back else (table, f"{table}_away")
            connection.execute(f"ALTER TABLE {old} RENAME TO {new}")


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


def test_names_that_are_no_text_are_logged_in_writing(runs: Path, uri: str) -> None:
    odd = "manifest:\udce4/m.csv"
    with started(runs, corpus=odd) as run:
        run.tags({"corpus": odd})
    found = MlflowClient(tracking_uri=uri).get_run(run.id)
    assert found.data.params["corpus"] == found.data.tags["corpus"] == r"manifest:\xe4/m.csv"


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


def test_a_server_that_is_gone_or_hangs_is_found_in_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        found = []
        for wanted in ("Connection refused", "timed out"):
            monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
            began = time.monotonic()
            message = rf"(?s)server cannot be used.*{wanted}.*start the server"
            with pytest.raises(EmonetError, match=message), started(tmp_path):
                found.append("work")
            assert time.monotonic() - began < 20
            deaf.listen()  # from now on it takes connections and says nothing
    assert found == []


def test_a_database_server_that_is_gone_is_found_in_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+psycopg2://me:secret@127.0.0.1:9/db")
    began = time.monotonic()
    with pytest.raises(EmonetError, match="Connection refused") as told, started(tmp_path):
        pass
    assert time.monotonic() - began < 20
    assert "secret" not in str(told.value)


def test_a_deleted_experiment_is_told_with_both_ways_out(runs: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with started(runs):
        pass
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name("toy")
    assert found is not None
    client.delete_experiment(found.experiment_id)
    ways = rf"try: +(MLFLOW_TRACKING_URI=\S+ mlflow experiments restore -x {found.experiment_id}); or another --name"
    with pytest.raises(RequestError, match=rf"(?s)experiment 'toy' was deleted.*{ways}") as told, started(runs):
        pass
    with pytest.raises(RequestError, match="experiment 'toy' was deleted"):
        require_experiment(uri, "toy", runs / "mlartifacts")
    setting, _, *command = str(told.value).rpartition("try:")[2].partition(";")[0].split()
    with monkeypatch.context() as environment:
        environment.setenv(*setting.split("=", 1))
        assert CliRunner().invoke(cli, command).exit_code == 0
    with started(runs) as run:
        assert run.id


def test_artefacts_that_cannot_be_written_are_found_before_the_work(runs: Path) -> None:
    (runs / "mlartifacts").write_text("a file where the folder should be")
    found = []
    message = r"(?s)artefacts cannot be written.*mlartifacts.*--runs FOLDER"
    with pytest.raises(RequestError, match=message), started(runs):
        found.append("work")
    assert found == []


def test_what_is_logged_while_the_database_is_away_does_not_end_the_work(
    runs: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "PAUSE", 0.0)
    with started(runs) as run:
        go_away(runs)
        run.metrics({"loss": 1.0})
        come_back(runs)
        run.metrics({"loss": 2.0}, 1)
    found = MlflowClient(tracking_uri=uri)
    assert [point.value for point in found.get_metric_history(run.id, "loss")] == [1.0, 2.0]
    assert found.get_run(run.id).info.status == "FINISHED"


def test_what_waits_is_logged_also_where_the_work_fails(runs: Path, uri: str) -> None:
    def work() -> None:
        with started(runs) as run:
            done.append(run.id)
            go_away(runs)
            run.metrics({"loss": 1.0})
            come_back(runs)
            raise ValueError("out of luck")

    done: list[str] = []
    with pytest.raises(ValueError, match="out of luck"):
        work()
    found = MlflowClient(tracking_uri=uri).get_run(done[0])
    assert (found.data.metrics, found.info.status) == ({"loss": 1.0}, "FAILED")


def test_a_file_that_is_gone_costs_only_itself(
    runs: Path, uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with started(runs) as run:
        run.artifact(tmp_path / "gone.png")
        run.metrics({"loss": 1.0})
    found = MlflowClient(tracking_uri=uri).get_run(run.id)
    assert (found.data.metrics, found.info.status) == ({"loss": 1.0}, "FINISHED")
    assert "not logged:" in caplog.text
    assert "gone.png" in caplog.text


def test_a_run_that_is_taken_up_is_never_open_under_a_dead_owner(
    runs: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with started(runs) as run:
        pass
    tags: list[set[str]] = []
    update = MlflowClient.update_run

    def watched(client: MlflowClient, run_id: str, *args: object, **kwargs: object) -> None:
        tags.append(set(MlflowClient(tracking_uri=uri).get_run(run_id).data.tags))
        update(client, run_id, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "update_run", watched)
    with taken_up(uri, run.id, runs / "mlartifacts"):
        pass
    assert set(owner()) <= tags[0]


def test_texts_and_trials_follow_a_folder_that_was_moved_meanwhile(runs: Path, uri: str) -> None:
    with started(runs) as run:
        elsewhere = runs.with_name("elsewhere")
        shutil.copytree(runs / "mlartifacts", elsewhere / "mlartifacts")
        before = len(list(elsewhere.rglob("*")))
        for name in ("text", "trial"):
            settle(runs / "mlflow.db", elsewhere)
            assert "elsewhere" in MlflowClient(tracking_uri=uri).get_run(run.id).info.artifact_uri
            if name == "text":
                run.text("hello", "hello.txt")
            else:
                record_run(run, name="x", config={}, tags={}, curves={}, figures={}, span=(0.0, 1.0), status="FINISHED")
    assert len(list(elsewhere.rglob("*"))) == before, "nothing was written there"


def test_a_server_that_stays_away_is_told_when_the_work_is_done(
    runs: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "PATIENCE", 0.0)
    done = []

    def work() -> None:
        with started(runs) as run:
            go_away(runs)
            run.metrics({"loss": 1.0})
            done.append("work")

    with pytest.raises(EmonetError, match=r"(?s)MLflow has not taken 1 .*no such table.*the same command goes on"):
        work()
    assert done == ["work"]


@pytest.mark.slow
def test_runs_that_start_together_share_one_new_database(tmp_path: Path) -> None:
    tmp_path = tmp_path / "why? 100% of a#b;c Gefühle {x}"
    code = (
        "from pathlib import Path; from emonet.tracking import *; from emonet.tracking import start_run\n"
        f"runs = Path({str(tmp_path)!r})\n"
        "with start_run(default_uri(runs), experiment='toy', name='x', artifacts=runs / 'a', config={}, tags={}): pass"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert [path.name for path in tmp_path.parent.iterdir()] == [tmp_path.name], "nothing beside it"
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
