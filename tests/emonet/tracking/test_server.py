"""A registry on a real MLflow server: downloads are kept, artefacts are probed, and a server may go away for a while."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from emonet.errors import RequestError
from emonet.registry import CAPTIONER, delete_version, prunable, register_captioner, resolve, version_files, version_of
from emonet.registry.artifacts import DOWNLOADS
from emonet.registry.versions import client
from emonet.tracking import backlog, preflight, start_run

pytestmark = pytest.mark.slow


class MlflowServer:
    """Args:
    folder: for its database and its artefacts.
    """

    def __init__(self, folder: Path) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db", "--artifacts-destination", str(self._folder),
        ]  # fmt: skip
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True, cwd=self._folder
            )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.2)
            else:
                return
        raise AssertionError((self._folder / "log").read_text())

    def stop(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_tracking: Path) -> Iterator[MlflowServer]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "mlflow.db").write_bytes(empty_tracking.read_bytes())
    found = MlflowServer(folder)
    found.start()
    yield found
    found.stop()


def register(uri: str, runs: Path, text: str) -> int:
    folder = runs / "captioner"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(text)
    with start_run(uri, experiment="toy", name="x", artifacts=runs / "mlartifacts", config={}, tags={}) as run:
        return register_captioner(run, folder, {}).version


def test_a_version_is_downloaded_once_and_goes_when_it_is_stale(server: MlflowServer, tmp_path: Path) -> None:
    runs, uri = tmp_path / "runs", server.uri
    numbers = [register(uri, runs, text) for text in ("one", "two", "three")]
    first = Path(resolve(f"models:/{CAPTIONER}@champion", uri, runs))
    assert first.is_relative_to(runs / DOWNLOADS)
    assert (first / "config.json").read_text() == "one"
    changed = (first / "config.json").stat().st_mtime_ns
    assert resolve(f"models:/{CAPTIONER}/{numbers[0]}", uri, runs) == str(first), "whatever it was called by"
    assert (first / "config.json").stat().st_mtime_ns == changed
    second = Path(resolve(f"models:/{CAPTIONER}/{numbers[1]}", uri, runs))
    assert (second / "config.json").read_text() == "two"
    goes, stays = prunable(CAPTIONER, uri, runs, keep=0)
    assert ([one.version for one in goes], stays) == ([numbers[1]], ())
    delete_version(goes[0], uri, runs)
    assert not second.exists()
    third = Path(resolve(f"models:/{CAPTIONER}/{numbers[2]}", uri, runs))
    client(uri).delete_registered_model_alias(CAPTIONER, "candidate")
    client(uri).delete_model_version(CAPTIONER, str(numbers[2]))  # by somebody else
    assert resolve(f"models:/{CAPTIONER}/{numbers[0]}", uri, runs) == str(first)
    assert not third.exists()
    run_id = version_of(CAPTIONER, numbers[0], uri).run_id
    own = resolve(f"runs:/{run_id}/captioner", uri, runs)
    assert own == resolve(f"runs:/{run_id}/captioner", uri, runs)
    assert (Path(own) / "config.json").read_text() == "one"


def test_artefacts_at_a_path_of_the_servers_machine_are_refused_before_the_work(
    server: MlflowServer, tmp_path: Path
) -> None:
    client(server.uri).create_experiment("elsewhere", "/proc/nowhere/artefacts")
    began = time.monotonic()
    message = r"(?s)server's artefacts cannot be written from this machine.*/proc/nowhere.*--serve-artifacts"
    with (
        pytest.raises(RequestError, match=message),
        start_run(server.uri, experiment="elsewhere", name="x", artifacts=tmp_path / "a", config={}, tags={}),
    ):
        raise AssertionError("the work began")
    assert time.monotonic() - began < 20


def test_artefacts_that_the_server_does_not_see_are_taken_back(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the server were on another machine, which has a folder of that name, too."""
    client(server.uri).create_experiment("namesake", (tmp_path / "namesake").as_uri())
    monkeypatch.setattr(preflight, "lists_artifact", lambda *_: False)
    with (
        pytest.raises(RequestError, match="a path of its own machine, where this one cannot put them"),
        start_run(server.uri, experiment="namesake", name="x", artifacts=tmp_path / "a", config={}, tags={}),
    ):
        raise AssertionError("the work began")
    assert not (tmp_path / "namesake").exists()


def test_a_server_may_go_away_in_the_middle(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "PAUSE", 0.0)
    with start_run(server.uri, experiment="toy", name="x", artifacts=tmp_path / "a", config={}, tags={}) as run:
        run.metrics({"loss": 3.0})
        server.stop()
        began = time.monotonic()
        run.metrics({"loss": 2.0}, 1)
        run.text("hello", "note.txt")
        assert time.monotonic() - began < 20
        server.start()
        run.metrics({"loss": 1.0}, 2)
    found = client(server.uri)
    assert [point.value for point in found.get_metric_history(run.id, "loss")] == [3.0, 2.0, 1.0]
    assert found.get_run(run.id).info.status == "FINISHED"
    assert "note.txt" in {file.path for file in found.list_artifacts(run.id)}


def test_files_of_a_server_are_measured_there(server: MlflowServer, tmp_path: Path) -> None:
    number = register(server.uri, tmp_path / "runs", "12345")
    found = version_files(version_of(CAPTIONER, number, server.uri), server.uri)
    assert (found.size, found.local) == (5, None)
