from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.image import imread

from emonet.errors import RequestError
from emonet.registry import register_voice
from emonet.tracking import default_uri, start_run
from experiments.cli import main
from experiments.predict import find_audio

pytestmark = pytest.mark.numeric


def test_many_files_and_folders_one_of_them_broken(
    voice: Path, make_wav: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = make_wav("calls/a.wav"), make_wav("calls/deep/b.WAV", hertz=300)
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    csv, plot = tmp_path / "s.csv", tmp_path / "s.png"
    command = [
        "predict",
        str(tmp_path / "calls"),
        str(broken),
        "--model",
        str(voice),
        "--csv",
        str(csv),
        "--plot",
        str(plot),
    ]
    assert main([*command, "--json"]) == 1  # one could not be used
    out, _ = capsys.readouterr()
    result = json.loads(out)
    assert [Path(p["audio"]) for p in result["predictions"]] == [one, two, broken]
    assert list(result["predictions"][0]["scores"]) == sorted(
        result["predictions"][0]["scores"], key=lambda name: -result["predictions"][0]["scores"][name]
    )
    assert result["predictions"][2]["error"]
    table = pd.read_csv(csv)
    assert set(table.columns) == {"audio", "seconds", "anger", "fear", "sadness", "error"}
    assert table["anger"].notna().tolist() == [True, True, False]
    assert imread(plot).shape[0] > 100


def test_the_table_for_people(voice: Path, make_wav: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(make_wav("a[1].wav")), "--model", str(voice), "--top", "2"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "a[1].wav" in err
    assert sum(name in err for name in ("Anger", "Fear", "Sadness")) == 2


def test_the_registry_says_which_model_answers(
    voice: Path, runs: Path, make_wav: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for experiment in ("sandbox", "mine"):
        with start_run(
            default_uri(runs), experiment=experiment, name="heads", artifacts=runs / "a", config={}, tags={}
        ) as run:
            register_voice(run, voice, ("anger", "fear", "sadness"), {})
    path = str(make_wav())
    assert main(["predict", path, "--runs", str(runs)]) == 0
    err = capsys.readouterr().err
    assert "emonet-voice version 1, trained by the experiment 'sandbox'" in err
    assert "its scores of human voices mean nothing" in err
    assert "version 2 ('mine') is newer" in err
    assert main(["predict", path, "--runs", str(runs), "--model", "models:/emonet-voice@candidate"]) == 0
    err = capsys.readouterr().err
    assert "version 2, trained by the experiment 'mine'" in err
    assert "note" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no file was named"),
        (["nothing.wav"], "there is no such file or folder"),
        (["FOLDER"], "the folder holds no audio"),
        (["a.wav", "--csv", "nowhere/s.csv"], "the output's folder does not exist"),
        (["a.wav", "--csv", "FOLDER"], "the output cannot be written"),
        (["a.wav", "--runs", "nowhere"], "there is no registry here"),
        (["a.wav", "--runs", "FOLDER"], "the registry has no model 'models:/emonet-voice@champion'"),
        (["a.wav", "--model", "FOLDER"], "this folder holds no voice model"),
    ],
)
def test_wrong_requests(
    arguments: list[str],
    message: str,
    runs: Path,
    make_wav: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(make_wav().parent)
    assert main(["predict", *(str(runs) if part == "FOLDER" else part for part in arguments)]) == 2
    assert message in capsys.readouterr().err


def test_a_named_file_is_tried_whatever_its_suffix(tmp_path: Path) -> None:
    odd = tmp_path / "a.dat"
    odd.write_bytes(b"x")
    assert find_audio([odd]) == [odd]
    with pytest.raises(RequestError, match="holds no audio"):
        find_audio([tmp_path])
