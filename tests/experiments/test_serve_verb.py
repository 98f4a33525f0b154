"""MLflow's scoring server comes up with a registered model, answers, and ends with Ctrl-C."""

from __future__ import annotations

import base64
import json
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emonet import EmotionPipeline
from emonet.errors import RequestError
from emonet.registry import register_voice, resolve
from emonet.tracking import default_uri, start_run
from experiments import serve
from experiments.arguments import ServeArguments
from experiments.cli import main
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


def post(port: int, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.mark.slow
def test_a_served_model_scores_until_interrupted(
    registered: Path, voice: Path, make_wav: Callable[..., Path], somebodys_project: Path
) -> None:
    port, path = free_port(), make_wav("sounds/a.wav")
    command = [
        *(COMMAND, "serve", "--port", str(port), "--runs", str(registered)),
        *("--allow-paths", str(path.parent), "--experts-precision", "bf16", "--json"),
    ]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # in the background shells ignore it
        cwd=somebodys_project,
    ) as server:
        try:
            wait_until_ready(server)
            text = base64.b64encode(path.read_bytes()).decode()
            rows = [{"audio": a} for a in ("a.wav", text, "../a.wav", "none.wav", "http://127.0.0.1/a.wav")]
            answers = post(port, {"dataframe_records": rows})["predictions"]
            (alone,) = post(port, {"inputs": ["a.wav"]})["predictions"]
            with pytest.raises(urllib.error.HTTPError) as refused:
                post(port, {"dataframe_records": [{"path": "a.wav"}]})
            assert refused.value.code == 400
            server.send_signal(signal.SIGINT)
            out, err = server.communicate(timeout=60)
        finally:
            server.kill()
    assert server.returncode == 0, err
    assert json.loads(out)["address"] == f"http://127.0.0.1:{port}"
    told = [{name: answer.pop(name) for name in ("notices", "error")} for answer in (alone, *answers[:2])]
    assert told == [told[0]] * 3
    assert told[0]["error"] is None
    assert alone == pytest.approx(answers[0], abs=0.02)  # a batch of another size, perhaps in bf16: 2^-8 of the states
    here = EmotionPipeline.from_folder(voice)(path)
    assert answers[0] == pytest.approx(here, abs=0.02)
    assert answers[1] == pytest.approx(answers[0], abs=1e-3)
    assert [answer["error"] for answer in answers[2:]] == [
        "outside of the folder that paths are allowed in",
        "no such file",
        "URLs of 127.0.0.1 are not allowed",
    ]
    assert all(answer["anger"] is None for answer in answers[2:])
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0  # nobody is left


def test_a_port_that_is_taken(registered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["serve", "--port", str(port), "--runs", str(registered)]) == 2
    said = capsys.readouterr().err
    assert f"port {port} cannot be used" in said
    assert "Address already in use" in said
    assert f"emonet serve --port {port + 1}" in said


def refused(runs: Path, **flags: Any) -> str:
    with pytest.raises(RequestError) as told:
        serve.run(ServeArguments(port=free_port(), runs=runs, **flags))
    return str(told.value)


def test_what_cannot_be_served_is_told_at_once(registered: Path, tmp_path: Path, voice: Path) -> None:
    assert "there is no registry here" in refused(tmp_path / "elsewhere")
    assert "the registry has no model 'models:/emonet-voice/9'" in refused(registered, model="models:/emonet-voice/9")
    assert "no model that MLflow can serve" in refused(registered, model=str(voice))
    assert "no such folder" in refused(registered, model=str(tmp_path / "none"))
    assert "paths are allowed in does not exist" in refused(registered, allow_paths=str(tmp_path / "none"))
    assert "no host that URLs could be allowed from" in refused(registered, allow_urls=("https://a.org/",))
    folder = Path(resolve("models:/emonet-voice@champion", default_uri(registered)))
    (folder / "code" / "emonet" / "serving" / "sources.py").unlink()
    assert "registered by an older emonet" in refused(registered, allow_paths="off")
    (folder / "data" / "voice" / "experts" / "anger.safetensors").unlink()
    with pytest.raises(RequestError, match=r"(?s)an expert cannot be read.*anger\.safetensors"):
        serve._explain(folder, ServeArguments())  # what is said once the server has stopped
    shutil.rmtree(folder)
    said = refused(registered)
    assert "its files are not found" in said
    assert "emonet registry list" in said


@pytest.mark.parametrize("place", ["sources.py", "serving/sources.py"])
def test_versions_both_layouts_have_settings(place: str, tmp_path: Path) -> None:
    (tmp_path / "MLmodel").touch()
    with pytest.raises(RequestError, match="registered by an older emonet"):
        serve._check_model(tmp_path, {"EMONET_ALLOW_PATHS": "off"})
    file = tmp_path / "code" / "emonet" / place
    file.parent.mkdir(parents=True)
    file.touch()
    serve._check_model(tmp_path, {"EMONET_ALLOW_PATHS": "off"})


@pytest.mark.parametrize(("paths", "shown"), [("any", '"interview.wav"'), ("off", "base64 < interview.wav")])
def test_the_line_to_copy_is_whole(paths: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    serve._say_ready(ServeArguments(allow_paths=paths), "http://127.0.0.1:5001")
    line = capsys.readouterr().err.splitlines()[-1]
    assert shown in line
    done = subprocess.run(["bash", "-n", "-c", line], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
