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
