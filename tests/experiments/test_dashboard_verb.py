"""Optuna's pages come up on this machine only, and Ctrl-C stops them."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import tomllib
import urllib.request
from pathlib import Path

import pytest

from emonet.errors import RequestError
from experiments import dashboard
from experiments.arguments import DashboardArguments
from experiments.sweep import Study, plan_of
from tests.experiments.conftest import COMMAND
from tests.experiments.sweep.fakes import fake_experiment
from tests.experiments.test_ui_verb import heed_interrupts
from tests.ports import free_port


@pytest.mark.slow
def test_pages_show_the_study_until_interrupted(tmp_path: Path, somebodys_project: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    Study(plan_of(fake_experiment(tmp_path, storage=storage), "the-study"))
    port = free_port()
    command = [COMMAND, "dashboard", "--port", str(port), "--runs", str(tmp_path)]
    command += ["--storage", storage]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts, cwd=somebodys_project
    ) as server:
        try:
            assert studies(port) == ["the-study"]
            server.send_signal(signal.SIGINT)
            _, err = server.communicate(timeout=60)
        finally:
            server.kill()
    assert server.returncode == 0, err
    assert f"http://127.0.0.1:{port}" in err


def test_a_password_is_no_argument_of_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, started, read = "postgresql+psycopg2://me:secret@db/sweeps", [], []

    def serve(command: list[str], **_: object) -> None:
        file = Path(command[-1])
        started.extend(command)
        read.append((tomllib.loads(file.read_text("utf-8"))["optuna_dashboard"], file.stat().st_mode & 0o777))

    monkeypatch.setattr(dashboard, "serve_until_interrupted", serve)
    port = free_port()
    result = dashboard.run(DashboardArguments(runs=tmp_path, storage=url, port=port))
    assert read == [({"storage": url, "host": "127.0.0.1", "port": port}, 0o600)]
    assert not any("secret" in one for one in [*started, *result.values()])
    assert not Path(started[-1]).exists()


def studies(port: int) -> list[str]:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies", timeout=5) as response:
                return [study["study_name"] for study in json.load(response)["study_summaries"]]
        except OSError:
            time.sleep(0.2)
    return []


def test_without_a_study_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"(?s)no study yet.*optuna\.db.*emonet sweep"):
        dashboard.run(DashboardArguments(runs=tmp_path))


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    import socket

    Study(plan_of(fake_experiment(tmp_path), "the-study"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(RequestError, match=rf"port {port} cannot be used"):
            dashboard.run(DashboardArguments(runs=tmp_path, port=port))
