from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from emonet.checkpoints import Calibration
from emonet.encoders import FrozenEncoder
from emonet.inference import EmotionPipeline
from emonet.tracking import default_uri
from experiments.cli import main

pytestmark = pytest.mark.numeric

NAMES = ("Anger", "Fear", "Jealousy_&_Envy", "Arousal", "Warm_vs._Cold")
TARGETS = {"anger", "fear", "jealousy", "arousal", "warm_cold", "speech_quality"}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, write_published: Callable[..., Path]) -> Path:
    """Three emotions, two attributes and a quality score of an encoder with 16 values per state."""
    folder = tmp_path_factory.mktemp("published")
    for name in NAMES:
        write_published(folder, name)
    write_published(folder, "score_speech_quality", inputs=64)
    return folder


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_import_predict_and_export(
    published: Path,
    whisper30: Path,
    make_wav: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    voice, wav = tmp_path / "voice", make_wav()
    assert main(["experts", "import", str(published), str(voice), "--encoder", str(whisper30)]) == 0
    told = said(capsys)
    assert "experts for 3 emotions, 2 attributes, 1 quality score, encoder" in told
    assert "no expert for 37 of 40 emotions: amusement," in told
    assert "registered" not in told
    assert main(["predict", str(wav), "--model", str(voice), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["predictions"][0]["scores"]
    assert set(scores) == TARGETS
    assert list(scores)[3:] == ["arousal", "warm_cold", "speech_quality"]
    emotions = list(scores.values())[:3]
    assert emotions == sorted(emotions, reverse=True)
    straight = ["predict", str(wav), "--experts", str(published), "--encoder", str(whisper30), "--json"]
    assert main(straight) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["predictions"][0]["scores"] == scores
    assert found["model"] == str(published)
    assert main(["experts", "export", str(voice), str(tmp_path / "out")]) == 0
    told = said(capsys)
    assert "6 experts" in told
    assert "calibration" not in told
    Calibration(kind="affine", curves={}).write(next((voice / "experts").glob("*/experts.json")).parent)
    assert main(["experts", "export", str(voice), str(tmp_path / "out"), "--force"]) == 0
    assert "the model's calibration is left out" in said(capsys)
    for path in published.iterdir():
        before, after = (torch.load(folder / path.name, weights_only=True) for folder in (published, tmp_path / "out"))
        assert all(torch.equal(tensor, after[key]) for key, tensor in before.items())


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_predict_with_rounded_experts_of_either_layout(
    published: Path,
    whisper30: Path,
    make_wav: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    precision: str,
) -> None:
    voice, wav = tmp_path / "voice", str(make_wav())
    assert main(["experts", "import", str(published), str(voice), "--encoder", str(whisper30)]) == 0
    found = []
    for arguments in (
        ["--experts", str(published), "--encoder", str(whisper30)],
        ["--experts", str(published), "--encoder", str(whisper30), "--experts-precision", precision],
        ["--experts", str(voice / "experts"), "--encoder", str(whisper30), "--experts-precision", precision],
        ["--model", str(voice), "--experts-precision", precision],
    ):
        capsys.readouterr()
        assert main(["predict", wav, *arguments, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out)["predictions"][0]["scores"])
    assert found[1] == found[2] == found[3]
    assert found[1] == pytest.approx(found[0], abs=0.01)
    assert found[1] != found[0]
    assert found[1]["speech_quality"] == found[0]["speech_quality"]  # its first layer is small


def test_the_table_shows_each_scale(
    published: Path, whisper30: Path, make_wav: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", str(make_wav()), "--experts", str(published), "--encoder", str(whisper30), "--top", "1"]
    plot = tmp_path / "s.png"
    assert main([*command, "--plot", str(plot)]) == 0
    err = said(capsys)
    assert sum(name in err for name in ("Anger", "Fear", "Jealousy & Envy")) == 1
    for name in ("Arousal", "Warm vs. Cold", "Speech Quality", "0 to 4", "-2 to 2", "1 to 5"):
        assert name in err
    assert plot.stat().st_size > 1000


def test_registered_it_is_a_version_like_any_other(
    published: Path,
    whisper30: Path,
    runs: Path,
    make_wav: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import mlflow
    import pandas as pd

    voice, wav, uri = tmp_path / "voice", make_wav(), default_uri(runs)
    command = ["experts", "import", str(published), str(voice), "--encoder", str(whisper30), "--runs", str(runs)]
    assert main([*command, "--register", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["registered"] == {"name": "emonet-voice", "version": 1}
    assert set(result["targets"]) == TARGETS
    version = MlflowClient(tracking_uri=uri, registry_uri=uri).get_model_version("emonet-voice", "1")
    digest = FrozenEncoder.load(str(whisper30)).digest
    assert version.tags["source"] == "published"
    assert version.tags["encoder_digest"] == digest == result["encoder_digest"]
    assert version.tags["encoder"] == str(whisper30)
    assert version.tags["licence"].startswith("CC-BY-4.0")
    assert "Training data and figures are not known here." in version.description
    assert "they were not trained here" in (voice / "README.md").read_text()
    exact = EmotionPipeline.from_folder(voice)(wav)
    assert EmotionPipeline.from_registry("models:/emonet-voice@champion", tracking_uri=uri)(wav) == exact
    assert main(["predict", str(wav), "--runs", str(runs)]) == 0
    assert "emonet-voice version 1, imported from published files" in said(capsys)
    assert main(["experts", "export", "models:/emonet-voice/1", str(tmp_path / "out"), "--runs", str(runs)]) == 0
    assert len(list((tmp_path / "out").iterdir())) == 6
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    frame = pd.DataFrame({"audio": [str(wav)]})
    loaded = mlflow.pyfunc.load_model("models:/emonet-voice/1", model_config={"experts_precision": "int8"})
    row = loaded.predict(frame).iloc[0].to_dict()
    assert row.pop("error") is None
    row.pop("notices")
    assert row == pytest.approx(exact, abs=0.01)
    assert row != pytest.approx(exact, abs=1e-6)


def test_force_replaces_what_the_verb_made_and_nothing_else(
    published: Path, whisper30: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voice, out = tmp_path / "voice", tmp_path / "out"
    bring = ["experts", "import", str(published), str(voice), "--encoder", str(whisper30)]
    write = ["experts", "export", str(voice), str(out)]
    for command in (bring, write):
        assert main(command) == 0
        assert main(command) == 2
        assert "the folder already exists" in said(capsys)
        assert main([*command, "--force"]) == 0
    (tmp_path / "project" / "experts").mkdir(parents=True)
    for command, place, entry in (
        (bring, voice, "notes.txt"),  # beside what the verb made
        (write, out, "epoch_3.pth"),
        (write, out, "notes.txt"),
        (bring, tmp_path / "photos", "a.jpg"),  # and elsewhere
        (write, tmp_path / "photos", "a.jpg"),
        (bring, tmp_path / "project", "encoder/model.py"),
        (write, tmp_path / "checkpoints", "epoch_3.pth"),
    ):
        foreign = place / entry
        foreign.parent.mkdir(parents=True, exist_ok=True)
        foreign.touch()
        assert main([*command[:3], str(place), *command[4:], "--force"]) == 2
        assert "--force, which replaces what this verb made and nothing else" in said(capsys)
        assert foreign.exists()
        foreign.unlink()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "WAV", "--experts", "PUBLISHED"], "--experts needs the encoder that they were trained on"),
        (["predict", "WAV", "--encoder", "ENCODER"], "--encoder belongs to --experts"),
        (["predict", "WAV", "--experts", "PUBLISHED", "--encoder", "ENCODER", "--model", "x"], "name two models"),
        (["predict", "WAV", "--experts", "nowhere", "--encoder", "ENCODER"], "there are no experts here"),
        (["predict", "WAV", "--experts", "EMPTY", "--encoder", "ENCODER"], "there are no experts here"),
        (["predict", "WAV", "--experts", "PUBLISHED", "--encoder", "nowhere"], "there is no such captioner"),
        (["predict", "WAV", "--experts", "PUBLISHED", "--encoder", "OTHER"], "1500 states of 16 values"),
        (["experts", "import", "EMPTY", "out", "--encoder", "ENCODER"], "there are no published experts here"),
        (["experts", "import", "EMPTY", "out", "--encoder", "nowhere"], "there are no published experts here"),
        (["experts", "import", "PUBLISHED", "out", "--encoder", "OTHER"], "50 states of 32 values"),
        (["experts", "export", "EMPTY", "out"], "this folder holds no voice model"),
        (["experts", "export", "VOICE", "out"], "50 states a clip, and published experts hear 1500"),
        (["experts", "bring"], "there is no verb 'experts bring'"),
    ],
)
def test_wrong_requests(
    arguments: list[str],
    message: str,
    published: Path,
    whisper30: Path,
    voice: Path,
    voice_parts: tuple[Path, Path],
    make_wav: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    places = {
        "WAV": make_wav(), "PUBLISHED": published, "ENCODER": whisper30, "OTHER": voice_parts[0],
        "EMPTY": tmp_path / "empty", "VOICE": flat(voice, tmp_path) if "VOICE" in arguments else voice,
    }  # fmt: skip
    assert main([str(places.get(part, part)) for part in arguments]) == 2
    assert message in said(capsys)
    assert not (tmp_path / "out").exists()


def flat(voice: Path, tmp_path: Path) -> Path:
    """Experts of another window than the published one."""
    from emonet.checkpoints.files import load_bank, save_bank
    from emonet.configs import HIDDEN
    from emonet.experts import ExpertBank

    _, info = load_bank(voice / "experts")
    info = type(info).model_validate({**info.model_dump(), "form": "flatten", "pool_over": "all"})
    save_bank(ExpertBank(info.spec, info.target_spec.ids, HIDDEN["small"]), info, tmp_path / "flat")
    return tmp_path / "flat"
