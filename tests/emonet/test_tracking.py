from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from emonet import tracking
from emonet.errors import EmonetError, RequestError
from emonet.tracking import CANDIDATE, CAPTIONER, CHAMPION, Run, default_uri, find, resolve, start_run


@pytest.fixture
def uri(runs: Path) -> str:
    return default_uri(runs)


def started(runs: Path, **config: object):
    return start_run(
        default_uri(runs),
        experiment="toy",
        name="pretrain",
        artifacts=runs / "mlartifacts",
        config=config,
        tags={"a": "b"},
    )


def register(runs: Path, text: str) -> int:
    folder = runs / "captioner"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(text)
    with started(runs) as run:
        return run.register_captioner(folder, {"val_loss": 1.5}).version


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


def test_first_version_is_champion_and_each_new_one_candidate(runs: Path, uri: str) -> None:
    assert find(CAPTIONER, CHAMPION, uri) is None
    assert [register(runs, "first"), register(runs, "second")] == [1, 2]
    champion, candidate = find(CAPTIONER, CHAMPION, uri), find(CAPTIONER, CANDIDATE, uri)
    assert champion is not None
    assert candidate is not None
    assert (champion.version, candidate.version, champion.experiment) == (1, 2, "toy")
    for source, text in (("@champion", "first"), ("@candidate", "second"), ("/2", "second")):
        assert (Path(resolve(f"models:/{CAPTIONER}{source}", uri)) / "config.json").read_text() == text


def test_other_sources_are_left_as_they_are(uri: str) -> None:
    assert resolve("openai/whisper-small", uri) == "openai/whisper-small"


def test_unknown_version_lists_what_there_is(runs: Path, uri: str) -> None:
    with pytest.raises(RequestError, match="an empty registry"):
        resolve("models:/emonet-captioner@champion", uri)
    register(runs, "first")
    with pytest.raises(RequestError, match=r"(?s)no model 'models:/emonet-captioner@best'.*emonet-captioner version 1"):
        resolve("models:/emonet-captioner@best", uri)


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database")
    message = r"(?s)tracking server cannot be used.*unset it to use runs/mlflow\.db"
    with pytest.raises(EmonetError, match=message), started(tmp_path):
        pass


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


def test_requirements_are_installed_packages() -> None:
    from importlib import metadata

    assert all(metadata.version(name) for name in tracking.VOICE_REQUIREMENTS)
    assert Run.__doc__


def test_an_unknown_alias_lists_those_that_there_are(runs: Path, uri: str) -> None:
    register(runs, "first")
    with pytest.raises(RequestError, match=r"(?s)found: .*version 1; aliases candidate, champion\n") as told:
        resolve("models:/emonet-captioner@candiate", uri)
    assert str(told.value).endswith("try:      models:/emonet-captioner@candidate")


def test_a_registry_that_the_environment_names_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"sqlite:///{tmp_path}/none.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    hint = rf"try: +MLFLOW_TRACKING_URI={uri} is set; unset it or correct it"
    with pytest.raises(RequestError, match=rf"(?s)no registry here.*where: +{tmp_path}/none\.db.*{hint}"):
        resolve("models:/emonet-voice@champion", default_uri(tmp_path))
    (tmp_path / "none.db").write_text("this is no database")
    with pytest.raises(EmonetError, match=rf"(?s)the registry cannot be used.*{hint}"):
        resolve("models:/emonet-voice@champion", default_uri(tmp_path))


def test_the_environment_is_not_blamed_for_a_model_that_a_registry_lacks(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RequestError, match=r"(?s)no model.*an empty registry.*emonet pretrain, extract and heads"):
        resolve("models:/emonet-voice@champion", uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(RequestError, match=r"(?s)no model.*an empty registry.*MLFLOW_TRACKING_URI=.* is set"):
        resolve("models:/emonet-voice@champion", uri)
