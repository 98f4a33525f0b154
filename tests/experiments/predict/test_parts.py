from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from emonet.segments import Segment, write_segments
from experiments.cli import main
from experiments.predict import owners_of

pytestmark = pytest.mark.numeric
TARGETS = ["fear", "sadness", "anger"]


@pytest.fixture
def predict(voice: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, list[dict[str, Any]], str]]:
    def run(*arguments: object) -> tuple[int, list[dict[str, Any]], str]:
        code = main(["predict", *map(str, arguments), "--model", str(voice), "--json"])
        out, err = capsys.readouterr()
        return code, json.loads(out)["predictions"] if out else [], err

    return run


@pytest.mark.parametrize("suffix", [".csv", ".rttm", ".TextGrid", ".srt", ".vtt", ".eaf"])
def test_each_segment_is_a_row(
    suffix: str, predict: Callable[..., Any], make_wav: Callable[..., Path], tmp_path: Path
) -> None:
    path, segments, csv = make_wav(seconds=2), tmp_path / f"a{suffix}", tmp_path / "s.csv"
    write_segments(segments, [Segment(0.2, 0.9, "Ann", text="oh"), Segment(0.8, 1.9, "Ben", text="well")])
    code, rows, err = predict(path, "--segments", segments, "--csv", csv)
    assert code == 0
    assert [(row["start"], row["end"], row["speaker"], row["channel"]) for row in rows] == [
        (0.2, 0.9, "Ann", None),
        (0.8, 1.9, "Ben", None),
    ]
    assert [row["seconds"] for row in rows] == [0.7, 1.0]
    assert "only the first 1.0 of 1.1 s are heard" in rows[1]["notices"]
    assert "1 segment begins before another one ends" in err
    table = pd.read_csv(csv)
    assert list(table.columns[:6]) == ["audio", "start", "end", "speaker", "channel", "text"]
    assert table["speaker"].tolist() == ["Ann", "Ben"]
    assert suffix == ".rttm" or table["text"].tolist() == ["oh", "well"]
    assert table["anger"].tolist() == pytest.approx([row["scores"]["anger"] for row in rows])


def test_segments_of_many_recordings(
    predict: Callable[..., Any], make_wav: Callable[..., Path], tmp_path: Path
) -> None:
    one, two, three = (make_wav(f"calls/{name}.wav") for name in "abc")
    line = "SPEAKER {} 1 {} {} <NA> <NA> x <NA> <NA>\n"
    spans = [("a", 0.1, 0.5), ("b", 0.5, 9), ("b", 7, 1), ("other", 0, 1)]
    rttm = tmp_path / "s.rttm"
    rttm.write_text("".join(line.format(*span) for span in spans))
    code, rows, err = predict(tmp_path / "calls", "--segments", rttm)
    assert code == 1
    assert [row["audio"] for row in rows] == list(map(str, (one, two, two, three)))
    assert [bool(row["error"]) for row in rows] == [False, False, True, True]
    assert "the part ends at 9.50 s, but the audio has 1.00 s" in rows[1]["notices"]
    assert rows[2]["error"] == "the clip starts after the end of the audio"
    assert rows[3]["error"] == "s.rttm has no segment of it"
    assert "passed over: segments of other, not among the files" in err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.rttm", "SPEAKER z 1 0 1 <NA> <NA> x <NA> <NA>\n", r"the segments are of other recordings"),
        ("s.srt", "1\n00:00:00,0 --> 00:00:01,0\n", r"segments name no recording, so they belong to one"),
        ("s.csv", "file,start,end\na.wav,0,1\n,0,1\n", r"segments with and without one|segments name no recording"),
        ("s.csv", "file,start,end\na.wav,0,1\nx/a.wav,0,1\n", r"which recording is meant by 'x/a.wav' cannot be told"),
        ("s.csv", "file,start,end\na.wav,2,1\n", r"line 2: ends at 1 s"),
        ("s.csv", None, r"the file of segments does not exist"),
    ],
)
def test_segments_that_do_not_fit(
    name: str,
    content: str | None,
    message: str,
    predict: Callable[..., Any],
    make_wav: Callable[..., Path],
    tmp_path: Path,
) -> None:
    files = make_wav("a.wav"), make_wav("b.wav")
    if content is not None:
        (tmp_path / name).write_text(content)
    code, _, err = predict(*files, "--segments", tmp_path / name)
    assert code == 2
    assert any(part in err for part in message.split("|"))


def test_each_channel_alone(predict: Callable[..., Any], make_wav: Callable[..., Path], tmp_path: Path) -> None:
    mono, stereo, csv = make_wav(), tmp_path / "stereo.wav", tmp_path / "s.csv"
    sound, rate = sf.read(mono)
    sf.write(stereo, np.column_stack([sound, np.zeros_like(sound)]), rate)
    code, rows, _ = predict(mono, stereo, "--channels", "each", "--csv", csv)
    assert code == 1
    assert [(Path(row["audio"]).name, row["channel"]) for row in rows] == [
        ("a.wav", 0),
        ("stereo.wav", 0),
        ("stereo.wav", 1),
    ]
    assert rows[0]["scores"] == pytest.approx(rows[1]["scores"], abs=1e-3)
    assert rows[2]["error"].startswith("digital silence")
    assert pd.read_csv(csv)["channel"].tolist() == [0, 0, 1]
    segments = tmp_path / "s.tsv"
    segments.write_text("start\tend\tchannel\n0\t0.5\t\n0.5\t1\t1\n")
    code, rows, _ = predict(stereo, "--channels", "each", "--segments", segments)
    assert [(row["start"], row["channel"]) for row in rows] == [(0, 0), (0, 1), (0.5, 1)]


@pytest.mark.parametrize("written", [".csv", ".parquet"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_a_tables_columns_are_kept(
    suffix: str, written: str, predict: Callable[..., Any], make_wav: Callable[..., Path], tmp_path: Path
) -> None:
    make_wav("clips/a.wav")
    table = pd.DataFrame(
        {"file": ["clips/a.wav", "clips/no.wav"], "id": ["007", "008"], "anger": [1, 2], "start": [0.25, 0.0]}
    )
    path, out = tmp_path / f"t{suffix}", tmp_path / f"out{written}"
    if suffix == ".parquet":
        table = table.assign(start=pd.to_timedelta(table["start"], unit="s"))
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="," if suffix == ".csv" else "\t")
    code, rows, err = predict(path, "--csv", out)
    assert code == 1
    assert [row["audio"] for row in rows] == ["clips/a.wav", "clips/no.wav"]
    assert rows[0]["seconds"] == 0.75
    assert rows[1]["error"]
    assert "ours are anger.predicted" in err
    read = pd.read_parquet(out) if written == ".parquet" else pd.read_csv(out, dtype={"id": str})
    names = [*table.columns, "seconds", "total", "fear", "sadness", "anger.predicted", "notices", "error"]
    assert list(read.columns) == names
    assert read["id"].tolist() == ["007", "008"]
    assert read["anger"].astype(int).tolist() == [1, 2]
    assert read["anger.predicted"][0] == pytest.approx(rows[0]["scores"]["anger"])
    assert pd.isna(read["anger.predicted"][1])
    if suffix == written == ".parquet":
        assert read["start"].tolist() == table["start"].tolist(), "types are kept"


def test_recordings_inside_of_a_table(
    predict: Callable[..., Any], make_wav: Callable[..., Path], tmp_path: Path
) -> None:
    audio = {"bytes": make_wav().read_bytes(), "path": "x.wav"}
    pd.DataFrame({"audio": [audio], "rating": [3]}).to_parquet(tmp_path / "t.parquet")
    code, rows, err = predict(tmp_path / "t.parquet", "--csv", tmp_path / "s.csv")
    assert (code, rows[0]["audio"]) == (0, "x.wav")
    assert "left out of the CSV file: audio, which holds recordings" in err
    assert list(pd.read_csv(tmp_path / "s.csv").columns) == ["rating", "seconds", "total", *TARGETS, "notices", "error"]


@pytest.mark.parametrize(
    ("content", "more", "message"),
    [
        ("name\na.wav\n", [], "no column names the recordings; found: name"),
        ("file,path\na.wav,a.wav\n", [], "several columns may name the recordings: 'file', 'path'"),
        ("file\n", [], "the table of recordings has no row"),
        ("file,start,end\na.wav,2,1\na.wav,soon,\n", [], "line 2: start 2 s is not before end 1 s"),
        ("file\na.wav\n", ["a.wav"], "a table of recordings stands alone"),
        ("file\na.wav\n", ["--segments", "s.rttm"], "a table of recordings has its own segments"),
    ],
)
def test_tables_that_do_not_fit(
    content: str,
    more: list[str],
    message: str,
    predict: Callable[..., Any],
    make_wav: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(make_wav().parent)
    (tmp_path / "t.csv").write_text(content)
    code, _, err = predict(tmp_path / "t.csv", *more)
    assert code == 2
    assert message in err


def test_parts_are_shown_in_one_table(
    voice: Path, make_wav: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, segments = make_wav(seconds=9), tmp_path / "a.csv"
    segments.write_text("start,end\n" + "".join(f"{at / 10},{at / 10 + 0.5}\n" for at in range(42)))
    assert main(["predict", str(path), "--segments", str(segments), "--model", str(voice)]) == 0
    err = capsys.readouterr().err
    assert "3.90" in err
    assert "4.00" not in err.split("strongest")[1].split("and 2 more")[0].split("3.50")[0]
    assert "and 2 more: --csv or --json has them all" in err
    assert "speaker" not in err, "nobody is named"


def test_a_scorer_hears_no_single_channels(make_wav: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(make_wav()), "--scorer", "toy", "--channels", "each"]) == 2
    assert "a --scorer hears channels mixed" in capsys.readouterr().err


def test_segments_beside_folders_that_cannot_be_listed() -> None:
    assert owners_of([], {"": ()}, Path("s.vtt")) == {}
