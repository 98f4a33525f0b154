from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.image import imread

from emonet.errors import RequestError
from emonet.registry import register_voice
from emonet.tracking import default_uri, start_run
from experiments.cli import main
from experiments.predict.finding import find_audio
from tests.cache.test_full_disk import fill, small_disk

__all__ = ["small_disk"]  # a fixture

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
    assert set(table.columns) == {"audio", "seconds", "total", "anger", "fear", "sadness", "notices", "error"}
    assert table["anger"].notna().tolist() == [True, True, False]
    assert imread(plot).shape[0] > 100


@pytest.mark.parametrize(
    "flags", [("--batch-size", "4"), ("--experts-precision", "int8"), ("--model", "m"), ("--encoder", "e")]
)
def test_flags_that_a_scorer_has_no_use_for_are_refused(
    make_wav: Callable[..., Path], capsys: pytest.CaptureFixture[str], flags: tuple[str, str]
) -> None:
    assert main(["predict", str(make_wav("a.wav")), "--scorer", "toy", *flags]) == 2
    assert f"{flags[0]} means nothing to a --scorer" in capsys.readouterr().err


def test_uncertainty_of_an_ensemble(
    ensemble_voice: Path, make_wav: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, csv = str(make_wav("a.wav")), tmp_path / "s.csv"
    command = ["predict", path, "--model", str(ensemble_voice), "--csv", str(csv)]
    assert main([*command, "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert (plain["coverage"], plain["predictions"][0]["uncertainties"]) == (None, None)
    assert "anger.uncertainty" not in pd.read_csv(csv).columns
    assert main([*command, "--uncertainty", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["coverage"] == 0.9
    (prediction,) = told["predictions"]
    assert prediction["scores"] == plain["predictions"][0]["scores"]
    assert set(prediction["uncertainties"]) == {"anger", "fear"}, "sadness had too few clips"
    table = pd.read_csv(csv)
    targets = [name for name in table.columns if name in prediction["scores"]]
    about = [f"{target}.uncertainty" for target in targets]
    assert list(table.columns) == ["audio", "seconds", "total", *targets, *about, "notices", "error"]
    assert table["anger.uncertainty"][0] == pytest.approx(prediction["uncertainties"]["anger"])
    assert table["sadness.uncertainty"].isna().all()
    assert main([*command, "--uncertainty"]) == 0
    shown = capsys.readouterr().err
    assert "± (90 %)" in shown
    assert f"{prediction['uncertainties']['fear']:.2f}" in shown


def test_uncertainty_needs_an_ensemble(
    voice: Path, make_wav: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(make_wav("a.wav"))
    assert main(["predict", path, "--model", str(voice), "--uncertainty"]) == 2
    error = capsys.readouterr().err
    assert "this model does not know how uncertain its scores are" in error
    assert "1 of each target" in error
    assert "--heads.ensemble 5" in error
    assert main(["predict", path, "--scorer", "toy", "--uncertainty"]) == 2
    assert "--uncertainty means nothing to a --scorer" in capsys.readouterr().err


def test_standard_scores_stand_beside_scores_and_can_rank(
    voice: Path, knowing_voice: Path, make_wav: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, csv = str(make_wav("a.wav")), tmp_path / "s.csv"
    command = ["predict", path, "--csv", str(csv), "--model"]
    assert main([*command, str(knowing_voice), "--json"]) == 0
    (prediction,) = json.loads(capsys.readouterr().out)["predictions"]
    assert set(prediction["standardised"]) == {"anger", "fear"}
    assert list(prediction["scores"]) == sorted(prediction["scores"], key=lambda name: -prediction["scores"][name])
    assert prediction["unfamiliarity"] > 1
    table = pd.read_csv(csv)
    assert [name for name in table.columns if name.endswith(".z")] == [f"{name}.z" for name in table.columns[3:6]]
    assert table["fear.z"][0] == pytest.approx(prediction["standardised"]["fear"])
    assert table["sadness.z"].isna().all(), "the population lacks it"
    assert table["unfamiliarity"][0] == pytest.approx(prediction["unfamiliarity"])
    assert main([*command, str(knowing_voice), "--rank-by", "z", "--json"]) == 0
    (ranked,) = json.loads(capsys.readouterr().out)["predictions"]
    assert list(ranked["scores"]) == ["fear", "anger", "sadness"]
    assert ranked["scores"] == prediction["scores"]
    assert main([*command, str(knowing_voice)]) == 0
    shown = capsys.readouterr().err
    assert f"{prediction['standardised']['fear']:.1f}" in shown
    assert re.search(r"score\W+z\W+scale", shown)
    assert "unlike anything the model was trained on" in shown

    assert main([*command, str(voice), "--json"]) == 0
    (plain,) = json.loads(capsys.readouterr().out)["predictions"]
    assert (plain["standardised"], plain["unfamiliarity"]) == (None, None)
    assert main([*command, str(voice), "--rank-by", "z"]) == 2
    error = capsys.readouterr().err
    assert "this model does not know what it gave its training clips" in error
    assert "--rank-by score" in error
    assert main(["predict", path, "--scorer", "toy", "--rank-by", "z"]) == 2
    assert "--rank-by means nothing to a --scorer" in capsys.readouterr().err


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
    assert "newer" not in err


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
    assert find_audio([odd]).files == (odd,)
    with pytest.raises(RequestError, match="holds no audio"):
        find_audio([tmp_path])


def test_no_name_costs_a_result(
    voice: Path, make_wav: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [
        b"\xe4rger.wav",
        "Zoe\u0308 [red] 1.wav".encode(),
        b'a,b;"c".wav',
        b"two\nlines.wav",
        b"$x^$.wav",
        b":dog:.wav",
    ]
    for number, name in enumerate(names):
        path = tmp_path / "calls" / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        make_wav(hertz=200 + number).rename(path)
    csv, plot = tmp_path / "s.csv", tmp_path / "s.png"
    command = ["predict", str(tmp_path / "calls"), "--model", str(voice)]
    assert main([*command, "--csv", str(csv), "--plot", str(plot), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    spelled = [f"{tmp_path}/calls/{name}" for name in
               ("$x^$.wav", ":dog:.wav", "Zoe\u0308 [red] 1.wav", 'a,b;"c".wav', "two\nlines.wav", r"\xe4rger.wav")]  # fmt: skip
    assert [prediction["audio"] for prediction in result["predictions"]] == spelled
    assert pd.read_csv(csv)["audio"].tolist() == spelled
    assert imread(plot).shape[0] > 100
    assert main(command) == 0
    err = capsys.readouterr().err
    for name in ("$x^$.wav", ":dog:.wav", "[red]", r"two\nlines.wav", r"\xe4rger.wav"):
        assert name in err
    assert main(["predict", spelled[-1], "--model", str(voice), "--json"]) == 0  # as a table names it
    assert json.loads(capsys.readouterr().out)["predictions"][0]["scores"]


def test_what_a_folder_holds_is_read_or_counted(
    voice: Path, make_wav: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_wav("disk/a.wav")
    (tmp_path / "calls").mkdir()
    (tmp_path / "calls/linked").symlink_to(tmp_path / "disk")
    for name in ("._a.wav", ".DS_Store", "notes.txt", "more.TXT", "list", "voice.m4b"):
        (tmp_path / "calls" / name).write_bytes(b"x")
    command = ["predict", str(tmp_path / "calls"), "--model", str(voice)]
    assert main([*command, "--json"]) == 1  # the audio that cannot be read; not for hidden files
    result = json.loads(capsys.readouterr().out)
    assert [(Path(p["audio"]).name, bool(p["error"])) for p in result["predictions"]] == [
        ("a.wav", False),
        ("voice.m4b", True),
    ]
    assert result["passed_over"] == {".txt": 2, "no suffix": 1}
    assert main(command) == 1
    assert "passed over: 3 files (2 .txt, 1 no suffix)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0"},
    ],
)
@pytest.mark.slow
def test_terminals_without_unicode_get_plain_bars(
    environment: dict[str, str], voice: Path, make_wav: Callable[..., Path]
) -> None:
    command = [sys.executable, "-m", "experiments.cli", "predict", str(make_wav("ärger.wav")), "--model", str(voice)]
    env = {**os.environ, "PYTHONCOERCECLOCALE": "0", "TERM": "dumb", **environment}
    root = Path(__file__).parents[3]
    shown = subprocess.run(command, cwd=root, env=env, capture_output=True, check=True)
    assert b"u2588" not in shown.stderr
    assert re.search(rb"0 to 4 \| #+ ", shown.stderr)
    done = subprocess.run([*command, "--json"], cwd=root, env=env, capture_output=True, check=True)
    assert json.loads(done.stdout.decode(environment.get("PYTHONIOENCODING", "ascii")))["predictions"][0][
        "audio"
    ].endswith("rger.wav")


def test_a_table_that_cannot_be_written_costs_no_scores(
    voice: Path, make_wav: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", str(make_wav()), "--model", str(voice), "--csv", "/dev/full"]
    assert main([*command, "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert set(result["predictions"][0]["scores"]) == {"anger", "fear", "sadness"}
    assert result["unwritten"] == "/dev/full: No space left on device"
    assert main(command) == 1
    err = capsys.readouterr().err
    assert "Anger" in err
    assert "the table could not be written /dev/full: No space left on device" in err


def test_a_full_disk_leaves_the_former_table(
    voice: Path, make_wav: Callable[..., Path], small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    former = small_disk / "scores.csv"
    former.write_text("whole\n")
    fill(small_disk)
    assert main(["predict", str(make_wav()), "--model", str(voice), "--csv", str(former)]) == 1
    assert f"the table could not be written {former}: No space left on device" in capsys.readouterr().err
    assert former.read_text() == "whole\n"
    assert {path.name for path in small_disk.iterdir()} == {"scores.csv", "filler"}
