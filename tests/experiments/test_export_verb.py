from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from emonet import EmotionPipeline
from emonet.hub import prepare, push
from emonet.registry import register_voice
from emonet.tracking import default_uri, start_run
from experiments.cli import main
from tests.hub_server import Hub

pytest.importorskip("onnx", reason="the extra onnx is not installed")


def test_a_folder_is_exported_and_checked_on_recordings(
    voice: Path, make_wav: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, path = tmp_path / "out", make_wav()
    assert main(["export", "onnx", str(voice), str(out), "--sound", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["differences"]["sounds"] == 1
    assert told["differences"]["largest"] < 1e-3
    assert (told["description"]["name"], told["description"]["version"]) == ("voice", None)
    assert set(EmotionPipeline.from_onnx(out)(path)) == {"anger", "fear", "sadness"}
    assert main(["export", "onnx", str(voice), str(out)]) == 2
    assert "the folder already exists" in capsys.readouterr().err
    assert main(["export", "onnx", str(voice), str(out), "--int8", "--force"]) == 0
    said = capsys.readouterr().err
    assert "voice in int8: encoder.onnx" in said
    assert "checked on 4 sounds: scores differ from the model's in float32 by" in said
    (out / "notes.txt").write_text("mine")
    assert main(["export", "onnx", str(voice), str(out), "--force"]) == 2
    assert (out / "notes.txt").exists()


def test_mistakes_are_told(voice: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert main(["export", "onnx", str(tmp_path), out]) == 2
    assert "this folder holds no voice model" in capsys.readouterr().err
    assert main(["export", "onnx", str(voice), out, "--sound", str(tmp_path / "a.wav")]) == 1
    assert "a.wav" in capsys.readouterr().err
    assert main(["export"]) == 2
    assert "export onnx" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_registered_version_is_named(
    voice: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with start_run(
        default_uri(runs), experiment="mine", name="heads", artifacts=runs / "mlartifacts", config={}, tags={}
    ) as run:
        register_voice(run, voice, ("anger", "fear", "sadness"), {"test_mae": 0.5})
    which = "models:/emonet-voice@champion"
    assert main(["export", "onnx", which, str(tmp_path / "out"), "--runs", str(runs), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["description"]
    assert (told["name"], told["version"]) == ("emonet-voice", 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")  # the hub's library uploads so
def test_a_model_of_the_hub_is_exported(
    voice: Path, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    push(prepare(voice, "me/voice"), replace=lambda _: False, say=print)
    capsys.readouterr()
    assert main(["export", "onnx", "hf://me/voice", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["description"]["name"] == "me/voice"
    assert "me/voice" in hub.repositories
