from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.cli import main


def test_a_report_for_people_and_for_programs(
    make_wav: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["audio,speaker,split,anger"]
    for number, split in enumerate(("train", "validation", "test")):
        rows.append(f"{make_wav(f'{number}.wav', hertz=200 + number).name},s{number},{split},{number}")
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "m.csv").write_text("\n".join([*rows, "empty.wav,s0,train,1"]))
    spec = f"manifest:{tmp_path / 'm.csv'}"
    assert main(["corpus", spec, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["clips"], report["speakers"], len(report["rejected"])) == (3, 3, 1)
    assert report["emotions"]["anger"]["rated"] == 3
    assert main(["corpus", spec]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "3 clips" in err
    assert "left out" in err
    assert "0 bytes" in err


@pytest.mark.parametrize("spec", ["nonsense", "manifest:nowhere.csv", "ravdess:nowhere", "emodb:nowhere"])
def test_a_corpus_that_is_not_there(spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["corpus", spec, "--runs", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert "Traceback" not in err


def test_warnings_and_what_was_passed_over(
    make_wav: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 16, 19):
        make_wav(f"ravdess/03-01-01-01-01-01-{number:02d}.wav", hertz=200 + number)
    (tmp_path / "ravdess/voice.vox").touch()
    (tmp_path / "ravdess/._03-01-01-01-01-01-01.wav").touch()
    (tmp_path / "m.csv").write_text(
        "audio,id,speaker,split,caption,language\n"
        "RAVDESS/03-01-01-01-01-01-01.WAV,1,07,train,[red]<|en|>,[red]\n"
        "ravdess/03-01-01-01-01-01-01.wav,2,7,train,,\n"
    )
    spec = f"ravdess:{tmp_path / 'ravdess'}+manifest:{tmp_path / 'm.csv'}"
    assert main(["corpus", spec, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed_over"] == {".vox": 1}
    assert report["rejected"] == []
    assert [warning.split(":")[0] for warning in report["warnings"]] == [
        "1 recording was found under another spelling of its name",
        "line 2",
        "what looks like one speaker may have several ids, which differ only in leading zeros, case, spaces or Unicode form",
    ]
    assert main(["corpus", spec]) == 0
    err = capsys.readouterr().err
    assert "passed over: 1 file (1 .vox)" in err
    assert err.count("\nwarning ") == 3
    assert "[red] 1" in err


def test_classes_are_counted_by_split(
    make_wav: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["audio,speaker,split,Mood"]
    for number, split in enumerate(("train", "train", "validation", "test")):
        rows.append(
            f"{make_wav(f'{number}.wav', hertz=200 + number).name},s{number},{split},{['[b]happy', 'sad'][number % 2]}"
        )
    (tmp_path / "m.csv").write_text("\n".join(rows))
    (tmp_path / "labels.json").write_text('{"[b]happy": "Elation", "sad": null}')
    spec = f"manifest:{tmp_path / 'm.csv'}#Mood"
    assert main(["corpus", spec, "--labels", str(tmp_path / "labels.json"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["classes"] == {
        "[b]happy": {"target": "elation", "clips": {"train": 1, "validation": 1, "test": 0}},
        "sad": {"target": None, "clips": {"train": 1, "validation": 0, "test": 1}},
    }
    assert report["emotions"]["elation"] == {"rated": 4, "nonzero": 2, "mean": 2.0}
    assert main(["corpus", spec, "--targets", "classes"]) == 0
    err = capsys.readouterr().err
    assert "[b]happy" in err
    assert "b_happy" in err
    assert main(["corpus", f"manifest:{tmp_path / 'm.csv'}#mood", "--targets", "classes"]) == 2
    assert "there is no column `mood`; found: audio, speaker, split, Mood" in capsys.readouterr().err
    assert main(["corpus", spec, "--labels", str(tmp_path / "gone.json")]) == 2
    assert "the file of labels cannot be read" in capsys.readouterr().err
    (tmp_path / "fixed.yaml").write_text("- {id: sad, low: 0, high: 1, meaning: whether it is sad, group: class}")
    for targets in ("classes", str(tmp_path / "fixed.yaml")):
        assert main(["corpus", spec, "--labels", str(tmp_path / "labels.json"), "--targets", targets]) == 2
        assert "labels stand for targets by a file, or are targets themselves" in capsys.readouterr().err
    assert main(["targets", "classes"]) == 2
    assert "emonet corpus CORPUS --targets classes" in capsys.readouterr().err
