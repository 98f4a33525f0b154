"""`emonet serve`: it comes up with a registered model, answers, and ends with Ctrl-C; MLflow's own server still can."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from emonet import EmotionPipeline
from emonet.errors import RequestError
from emonet.registry import register_voice, resolve
from emonet.tracking import default_uri, start_run
from experiments import serve
from experiments.arguments import ServeArguments
from experiments.cli import main
from experiments.core import tell_version
from tests.experiments.conftest import COMMAND
from tests.ports import free_port
from tests.servers import wait_until_ready

pytestmark = pytest.mark.numeric


@pytest.fixture
def registered(voice: Path, runs: Path) -> Path:
    """A `runs` folder with a champion."""
    with start_run(
        default_uri(runs), experiment="toy", name="x", artifacts=runs / "mlartifacts", config={}, tags={}
    ) as run:
        register_voice(run, voice, ("anger", "fear", "sadness"), {})
    return runs


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_served_model_scores_until_interrupted(
    number: signal.Signals, registered: Path, voice: Path, make_wav: Callable[..., Path], somebodys_project: Path
) -> None:
    port, path = free_port(), make_wav("sounds/a.wav")
    command = [
        *(COMMAND, "serve", "--port", str(port), "--runs", str(registered), "--device", "cpu"),
        *("--allow-paths", str(path.parent), "--experts-precision", "bf16", "--json"),
    ]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: [signal.signal(one, signal.SIG_DFL) for one in (signal.SIGINT, signal.SIGHUP)],
        cwd=somebodys_project,
    ) as server:
        try:
            wait_until_ready(server)
            rows = [{"audio": one} for one in ("a.wav", "../a.wav", "none.wav", "http://127.0.0.1/a.wav")]
            answer = requests.post(f"http://127.0.0.1:{port}/v1/score", json={"recordings": rows}, timeout=60).json()
            server.send_signal(number)
            out, err = server.communicate(timeout=60)
        finally:
            server.kill()
    assert server.returncode == 0, err
    assert json.loads(out)["address"] == f"http://127.0.0.1:{port}"
    assert json.loads(out)["source"] == answer["model"]["source"] == "models:/emonet-voice/1"
    heard, *refused = answer["results"]
    assert heard["scores"] == pytest.approx(EmotionPipeline.from_folder(voice, device="cpu")(path), abs=0.02)
    assert [one["error"] for one in refused] == [
        "outside of the folder that paths are allowed in",
        "no such file",
        "URLs of 127.0.0.1 are not allowed; try: emonet serve --allow-urls HOST",
    ]
    assert "Traceback" not in err
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0  # nobody is left


@pytest.mark.slow
def test_mlflows_own_server_serves_the_same_version(
    registered: Path, voice: Path, make_wav: Any, tmp_path: Path
) -> None:
    port, path = free_port(), make_wav()
    folder = resolve("models:/emonet-voice@champion", default_uri(registered))
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "--env-manager",
        "local",
        "-m",
        folder,
        "-p",
        str(port),
    ]
    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    log = (tmp_path / "log").open("w")
    with log, subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True) as server:
        try:
            deadline = time.monotonic() + 120
            while True:
                try:
                    requests.get(f"http://127.0.0.1:{port}/ping", timeout=5)
                    break
                except requests.ConnectionError:
                    assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                    time.sleep(0.3)
            body = {"dataframe_records": [{"audio": str(path)}]}
            answer = requests.post(f"http://127.0.0.1:{port}/invocations", json=body, timeout=60)
        finally:
            os.killpg(server.pid, signal.SIGKILL)
    (row,) = answer.json()["predictions"]
    assert (row.pop("error"), "steady" in row.pop("notices")) == (None, True)
    assert row == pytest.approx(EmotionPipeline.from_folder(voice)(path), abs=0.02)


def test_a_port_that_is_taken(voice: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["serve", "--port", str(port), "--model", str(voice)]) == 2
    said = capsys.readouterr().err
    assert f"port {port} cannot be used" in said
    assert "Address already in use" in said
    assert f"emonet serve --port {port + 1}" in said


def refused(**flags: Any) -> str:
    with pytest.raises(RequestError) as told:
        serve.run(ServeArguments(port=0, **flags))
    return str(told.value)


def test_what_cannot_be_served_is_told_at_once(tmp_path: Path, voice: Path) -> None:
    model = str(voice)
    assert "there is no registry here" in refused(runs=tmp_path / "elsewhere")
    assert "paths are allowed in does not exist" in refused(model=model, allow_paths=str(tmp_path / "none"))
    assert "no host that URLs could be allowed from" in refused(model=model, allow_urls=("https://a.org/",))
    assert "the file of tokens cannot be used" in refused(model=model, token_file=tmp_path / "none")
    assert "could ask without a token" in refused(model=model, host="0.0.0.0")
    assert "no voice model" in refused(model=str(tmp_path))


@pytest.mark.parametrize("token", [False, True])
def test_the_line_to_copy_is_whole(token: bool, capsys: pytest.CaptureFixture[str]) -> None:
    serve._say_ready("http://127.0.0.1:5001", asks_for_token=token)
    line = capsys.readouterr().err.splitlines()[-1]
    assert ("Authorization" in line) is token
    done = subprocess.run(["bash", "-n", "-c", line], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_demo_opens_the_page(registered: Path, tmp_path: Path, somebodys_project: Path) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o755)
    command = [COMMAND, "demo", "--runs", str(registered), "--device", "cpu"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=somebodys_project, env={**os.environ, "BROWSER": str(browser)}
    ) as server:
        try:
            deadline = time.monotonic() + 60
            while not (opened.is_file() and opened.read_text()) and time.monotonic() < deadline:
                time.sleep(0.1)
            address = opened.read_text().strip()
            page = requests.get(address, headers={"Accept": "text/html"}, timeout=20)
            server.send_signal(signal.SIGINT)
            _, err = server.communicate(timeout=60)
        finally:
            server.kill()
    assert "<title>emonet" in page.text
    assert f"the page is {address}; Ctrl-C stops it" in err
    assert "model: emonet-voice version 1, trained by the experiment 'toy'" in err
    assert "no browser" not in err
    assert server.returncode == 0


def test_that_the_champion_knows_synthetic_voices_alone_is_told(
    voice: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for experiment in ("sandbox", "toy"):
        with start_run(
            default_uri(runs), experiment=experiment, name="x", artifacts=runs / "mlartifacts", config={}, tags={}
        ) as run:
            register_voice(run, voice, ("anger", "fear", "sadness"), {})
    capsys.readouterr()
    tell_version("models:/emonet-voice@champion", runs)
    said = " ".join(capsys.readouterr().err.split())
    assert "version 1, trained by the experiment 'sandbox'" in said
    assert "scores of human voices mean nothing" in said
    assert "version 2 ('toy') is newer; to use it: --model models:/emonet-voice@candidate" in said
    tell_version("models:/emonet-voice/1", runs)
    tell_version(str(voice), runs)
    assert capsys.readouterr().err == ""


def test_a_machine_without_a_desktop_has_no_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert not serve.opened_in_browser("http://127.0.0.1:1/")
