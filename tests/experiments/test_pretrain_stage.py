from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from emonet.captioner import model as captioner
from emonet.captioner.model import Size
from emonet.configs import CaptionerConfig
from emonet.errors import EmonetError
from experiments import pretrain
from experiments.core import Experiment, load
from experiments.sweep import verb as sweep
from tests.experiments.sweep.fakes import search_here

pytestmark = pytest.mark.numeric


@pytest.fixture
def experiment(
    tmp_path: Path, runs: Path, make_wav: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Experiment:
    """Six recordings in a manifest, and a captioner of 1 s."""
    monkeypatch.setitem(captioner.SIZES, "nano", Size(32, 1, 1, 2, None))
    rows = []
    for row, split in enumerate(("train", "train", "train", "validation", "validation", "test")):
        path = make_wav(f"{row}.wav", seconds=0.5, hertz=150 + 40 * row)
        rows.append({"audio": str(path), "speaker": split, "split": split, "anger": row % 5, "fear": 1})
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = CaptionerConfig(window_seconds=1.0, epochs=2, batch_size=2, sample_captions=1)
    return Experiment(name="mini", corpus=f"manifest:{manifest}", runs=runs, captioner=config)


def test_pretrain_then_again(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    result = pretrain.run(experiment)
    assert (result.stage, result.clips, result.unreadable) == ("pretrain", {"train": 3, "validation": 2}, ())
    assert (result.registered.name, result.registered.version) == ("emonet-captioner", 1)
    assert (result.epochs, result.window_seconds, len(result.samples)) == (2, 1.0, 1)
    assert json.loads((experiment.folder / "pretrain.json").read_text())["val_loss"] == result.val_loss
    assert not (experiment.folder / "captioner.training").exists()

    folder = experiment.folder / "captioner"
    model = WhisperForConditionalGeneration.from_pretrained(folder)
    processor = WhisperProcessor.from_pretrained(folder)
    features = processor(np.zeros(8000, np.float32), sampling_rate=16_000, return_tensors="pt").input_features
    assert isinstance(processor.decode(model.generate(features, max_new_tokens=4)[0], skip_special_tokens=True), str)
    assert sum(parameter.numel() for parameter in model.parameters()) == result.parameters

    pretrain.show(result)
    shown = capsys.readouterr().err
    assert "epoch 2 of 2" in shown
    assert "hit rate" in shown
    pretrain.show(pretrain.PretrainResult.model_validate({**dict(result), "captioner": "[/x]"}))
    assert "[/x]: " in capsys.readouterr().err
    assert pretrain.run(experiment) == result
    assert "up to date" in capsys.readouterr().err


def test_what_cannot_be_registered_is_not_trained_again(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(*_: object) -> None:
        raise EmonetError("the server is gone")

    monkeypatch.setattr("emonet.registry.register_captioner", gone)
    with pytest.raises(EmonetError, match="the server is gone"):
        pretrain.run(experiment)
    monkeypatch.undo()
    weights = experiment.folder / "captioner" / "model.safetensors"
    written = weights.stat().st_mtime_ns
    result = pretrain.run(experiment)
    assert "its work is done and safe" in capsys.readouterr().err
    assert weights.stat().st_mtime_ns == written
    assert result.registered is not None
    assert (result.registered.version, result.epochs) == (1, 2)


@pytest.mark.slow
def test_a_sweep_of_captioners(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    space = {"captioner.learning_rate": {"low": "1e-4", "high": "1e-2", "log": True}}
    settings = {"stage": "pretrain", "trials": 2, "epochs": 1, "space": space}
    experiment = Experiment.model_validate({**experiment.model_dump(), "sweep": settings})
    monkeypatch.setattr("experiments.sweep.verb.search", search_here)
    result = sweep.run(experiment)
    assert (result.finished, result.failed, result.complete, result.test) == (2, 0, True, {})
    assert result.best is not None
    assert set(result.best.values) == {"loss"}
    assert result.registered is not None
    assert (result.registered.name, result.registered.version) == ("emonet-captioner", 1)
    chosen = load(str(result.settings))
    assert chosen.captioner.learning_rate == result.best.params["captioner.learning_rate"]
    assert chosen.captioner.epochs == 2, "trials had one"
    folder = experiment.folder / "sweep-pretrain"
    assert {"captioner", "pretrain.json", "trials.csv", "best.yaml"} <= {path.name for path in folder.iterdir()}
    assert not (experiment.folder / "captioner").exists(), "the experiment's own captioner is left alone"


def test_registered_captioner_goes_on_as_a_start(experiment: Experiment) -> None:
    first = pretrain.run(experiment)
    uri = f"models:/{first.registered.name}/{first.registered.version}"
    config = {**experiment.captioner.model_dump(), "model": uri, "epochs": 1}
    second = pretrain.run(Experiment.model_validate({**experiment.model_dump(), "name": "more", "captioner": config}))
    assert second.registered.version == 2
    assert second.parameters == first.parameters


@pytest.mark.slow
def test_another_seed_or_window_trains_again(experiment: Experiment) -> None:
    first = pretrain.run(experiment)
    other = pretrain.run(Experiment.model_validate({**experiment.model_dump(), "seed": 1}))
    assert other.inputs != first.inputs
    assert other.val_loss != first.val_loss


@pytest.mark.slow
def test_the_window_auto_holds_the_clips(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    config = {**experiment.captioner.model_dump(), "window_seconds": "auto", "epochs": 1}
    found = pretrain.run(Experiment.model_validate({**experiment.model_dump(), "captioner": config}))
    assert found.window_seconds == int(found.window_seconds) >= 1
    assert f"window: {found.window_seconds:g} s, from the lengths of" in capsys.readouterr().err


def test_the_module_is_light() -> None:
    heavy = "{'torch', 'lightning', 'transformers', 'mlflow', 'zarr', 'sklearn', 'pandas'}"
    code = f"import sys, experiments.pretrain; found = {heavy} & set(sys.modules); assert not found, found"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_recordings_left_out_of_the_corpus_are_told_and_kept(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    row = {"audio": "empty.wav", "speaker": "train", "split": "train", "anger": 1}
    with (tmp_path / "m.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    quick = {**experiment.captioner.model_dump(), "epochs": 1, "sample_captions": 0}
    result = pretrain.run(Experiment.model_validate({**experiment.model_dump(), "captioner": quick}))
    assert result.rejected == {"empty.wav": "0 bytes"}
    assert json.loads((experiment.folder / "pretrain.json").read_text())["rejected"] == result.rejected
    pretrain.show(result)
    shown = capsys.readouterr().err
    assert "1 recording of the corpus was left out (emonet corpus manifest:" in shown
    assert "1 epoch (best 1)" in shown
