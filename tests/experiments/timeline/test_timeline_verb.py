from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from filelock import FileLock

from emonet.captioner import model as captioner
from emonet.captioner import save_captioner
from emonet.captioner.model import Size, scratch
from emonet.timelines import FORMATS, Format, read_timeline
from emonet.windows import Window
from experiments.cli import main
from experiments.timeline.names import output_names
from experiments.timeline.verb import FileTimeline, TimelineResult, show
from tests.cache.test_full_disk import fill, small_disk

__all__ = ["small_disk"]  # a fixture

pytestmark = pytest.mark.numeric
pytest.importorskip("onnxruntime")
pytest.importorskip("silero_vad")
SLIDING = ["--mode", "sliding", "--window", "0.8", "--hop", "0.4"]
Run = Callable[..., tuple[int, dict[str, object], str]]


@pytest.fixture
def run(voice: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the verb: its exit code, its JSON and what it says."""

    def call(*arguments: object) -> tuple[int, dict[str, object], str]:
        flags = ["--model", str(voice), "--out", str(tmp_path / "out"), "--json"]
        given = [str(one) for one in arguments]
        formats = [] if "--formats" in given else ["--formats", "csv", "json"]
        code = main(["timeline", *given, *flags, *formats])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else {}, err

    return call


def test_one_that_fails_does_not_stop_the_others(run: Run, make_wav: Callable[..., Path], tmp_path: Path) -> None:
    one, two = make_wav("a.wav", seconds=2.0), make_wav("b.wav", seconds=1.5)
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    code, result, _ = run(one, broken, two, *SLIDING)
    assert code == 1
    first, failed, last = result["timelines"]  # type: ignore[misc]
    assert failed["error"]
    assert (first["segments"], last["segments"]) == (4, 3)
    assert first["flagged"] == {"no speech": 4}
    assert len(pd.read_csv(tmp_path / "out" / "a.csv")) == 4
    assert read_timeline(tmp_path / "out" / "b.json").seconds == 1.5
    made = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert made == [".emonet", "a.csv", "a.json", "b.csv", "b.json"]
    again = run(one, broken, two, *SLIDING)
    assert again[:2] == (code, result)
    assert "a.wav: was scored before; its files are written anew" in again[2]


def test_nobody_speaks(
    voice: Path, make_wav: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["timeline", str(make_wav(seconds=2.0)), "--model", str(voice), "--out", str(tmp_path / "out")]
    assert main([*command, "--formats", "csv", "json", "vtt", "srt", "eaf", "TextGrid", "html", "png"]) == 0
    assert "nobody speaks (--mode sliding" in capsys.readouterr().err
    assert len(pd.read_csv(tmp_path / "out" / "a.csv")) == 0
    assert len(list((tmp_path / "out").glob("a.*"))) == 8


def test_channels_are_speakers(run: Run, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (32_000, 2))
    sf.write(tmp_path / "two.wav", noise * [1, 0.1], 16_000)
    code, _, _ = run(tmp_path / "two.wav", "--channels", "each", *SLIDING)
    assert code == 0
    table = pd.read_csv(tmp_path / "out" / "two.csv")
    assert table["speaker"].value_counts().to_dict() == {"channel 1": 4, "channel 2": 4}
    assert table["channel"].tolist()[:2] == [0, 1]


def test_segments_of_a_file(run: Run, make_wav: Callable[..., Path], tmp_path: Path) -> None:
    rttm = tmp_path / "s.rttm"
    rttm.write_text("SPEAKER a 1 0.5 0.9 <NA> <NA> anna <NA> <NA>\nSPEAKER a 1 0.7 0.5 <NA> <NA> ben <NA> <NA>\n")
    wav = make_wav("a.wav", seconds=2.0)
    code, _, _ = run(wav, "--segments", rttm)
    assert code == 0
    assert pd.read_csv(tmp_path / "out" / "a.csv")["speaker"].tolist() == ["anna", "ben"]
    code, _, err = run(make_wav("other.wav"), "--segments", rttm)
    assert code == 2
    assert "the segments are of other recordings" in err
    code, _, err = run(wav, tmp_path / "other.wav", "--segments", rttm)
    assert code == 2
    assert "it may be of another one" in err
    code, _, err = run(wav, "--segments", rttm, "--mode", "sliding")
    assert code == 2
    assert "--segments says what is scored" in err


def test_segments_are_found_as_predict_finds_them(run: Run, make_wav: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "marks").mkdir()
    marks = tmp_path / "marks" / "s.csv"
    marks.write_text("file,start,end\n../a.wav,0.5,1.5\nb/x.wav,0,1\n")  # relative to the table
    code, result, err = run(make_wav("a.wav", seconds=2.0), "--segments", marks)
    assert code == 0
    assert result["timelines"][0]["segments"] == 1  # type: ignore[index]
    assert "passed over: segments of b/x.wav" in err
    marks.write_text("start,end\n0.5,1.5\n")
    code, _, err = run(tmp_path / "a.wav", make_wav("b.wav"), "--segments", marks)
    assert code == 2
    assert "segments name no recording, so they belong to one" in err


def test_captions_are_those_of_the_captioners_weights(
    run: Run, make_wav: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(captioner.SIZES, "nano", Size(32, 1, 1, 2, None))
    wav, folder = make_wav("a.wav", seconds=1.2), tmp_path / "captioner"

    def captions(seed: int) -> tuple[list[str], str]:
        save_captioner(*scratch("nano", Window(1.0), ["A calm voice.", "A loud one."], seed), folder)
        code, _, err = run(wav, "--captioner", folder, *SLIDING)
        assert code == 0
        return pd.read_csv(tmp_path / "out" / "a.csv")["caption"].tolist(), err

    first, _ = captions(1)
    assert "was scored before" in captions(1)[1]
    other, err = captions(2)  # trained again, in the same folder
    assert "goes on where it stopped" not in err
    assert other != first


def test_two_at_once_are_refused(run: Run, make_wav: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "out" / ".emonet").mkdir(parents=True)
    with FileLock(tmp_path / "out" / ".emonet" / "a.lock"):
        code, _, err = run(make_wav("a.wav"), *SLIDING)
    assert code == 1
    assert "another process is at work on this timeline" in err


def test_a_full_disk_is_told_and_the_same_command_goes_on(
    voice: Path, make_wav: Callable[..., Path], small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wav = make_wav("a.wav", seconds=3.0)
    flags = ["--model", str(voice), "--formats", "csv", "json", *SLIDING]
    assert main(["timeline", str(wav), *flags, "--out", str(tmp_path / "whole")]) == 0
    (small_disk / "out" / ".emonet").mkdir(parents=True)
    fill(small_disk)
    assert main(["timeline", str(wav), *flags, "--out", str(small_disk / "out")]) == 1
    assert "the disk is full" in capsys.readouterr().err
    (small_disk / "filler").unlink()
    assert main(["timeline", str(wav), *flags, "--out", str(small_disk / "out")]) == 0
    assert_same(small_disk / "out", tmp_path / "whole")


def assert_same(one: Path, other: Path) -> None:
    names = sorted(path.name for path in one.glob("*.*"))
    assert names == sorted(path.name for path in other.glob("*.*"))
    for name in names:
        if (one / name).is_file():
            assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.slow
def test_a_kill_at_any_moment_loses_nothing(
    voice: Path, make_wav: Callable[..., Path], tmp_path: Path, chance: random.Random
) -> None:
    wav = make_wav("a.wav", seconds=20.0)
    command = [
        sys.executable, "-m", "experiments.cli", "timeline", str(wav), "--model", str(voice),
        "--formats", "csv", "json", "srt", *SLIDING, "--batch-size", "2",
    ]  # fmt: skip
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True, capture_output=True)
    journal = tmp_path / "out" / ".emonet" / "a.jsonl"
    for lines in sorted(chance.sample(range(1, 26), 3)):  # of 27
        child = subprocess.Popen([*command, "--out", str(tmp_path / "out")], stderr=subprocess.DEVNULL)
        while child.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") >= lines):
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.05))
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    before = journal.read_bytes()
    (tmp_path / "out" / "a.srt.16657-aa2fe0cd.partial").write_text("what a kill leaves while files are written")
    subprocess.run([*command, "--out", str(tmp_path / "out")], check=True, capture_output=True)
    assert journal.read_bytes().startswith(before[: before.rindex(b"\n") + 1])  # what was there was not scored again
    assert_same(tmp_path / "out", tmp_path / "whole")


def test_outputs_have_names_of_their_own() -> None:
    files = [Path(one) for one in ("/x/a.wav", "/y/a.wav", "/y/a.mp3", "/x/b.wav", "/x/a.wav", "/y/B.flac")]
    names = output_names(files)
    assert set(names) == set(files)
    assert len({name.casefold() for name in names.values()}) == 5
    assert output_names([Path("/x/a.wav"), Path("/y/b.wav")]) == {Path("/x/a.wav"): "a", Path("/y/b.wav"): "b"}
    assert names[Path("/y/a.mp3")] == "a.mp3"


def test_long_names_are_cut_and_told_apart() -> None:
    files = [Path(f"/x/{'ä' * 120}{end}.wav") for end in ("1", "2")] + [Path(f"/x/{'b' * 200}.wav")]
    names = list(output_names(files).values())
    assert len(set(names)) == 3
    assert [name[:96] for name in names[:2]] == ["ä" * 95 + "~"] * 2
    assert names[2] == "b" * 200
    assert all(len(os.fsencode(name)) <= 200 for name in names)


def test_long_names_have_files(run: Run, make_wav: Callable[..., Path]) -> None:
    code, result, err = run(make_wav(f"{'x' * 240}.wav"), *SLIDING, "--formats", "csv", "TextGrid")
    assert (code, err.count("error")) == (0, 0)
    assert all(Path(path).is_file() for path in result["timelines"][0]["files"])  # type: ignore[index]


def test_a_pipe_is_no_recording(run: Run, make_wav: Callable[..., Path], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    code, result, _ = run(tmp_path / "pipe.wav", make_wav("a.wav"), *SLIDING)
    assert code == 1
    assert [one["error"] for one in result["timelines"]] == ["not a file", None]  # type: ignore[attr-defined]


def test_segments_of_another_recording_do_not_stop_the_others(
    run: Run, make_wav: Callable[..., Path], tmp_path: Path
) -> None:
    table = tmp_path / "s.csv"
    table.write_text("file,start,end\na.wav,50,51\nb.wav,0,1\n")
    one, two = make_wav("a.wav", seconds=1.0), make_wav("b.wav", seconds=1.0)
    code, result, _ = run(one, two, "--segments", table)
    assert code == 1
    errors = [one["error"] for one in result["timelines"]]  # type: ignore[attr-defined]
    assert errors == ["no segment lies in the recording: they may be of another one", None]
    assert run(one, "--segments", table)[0] == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--out", "{wav}"], "(?s)folder for timelines cannot be written.*Not a directory"),
        (["--formats"], "--formats"),
        (["--longest", "0.6"], "(?s)the shortest segment is longer.*at most 0.6 s.*--shortest 0.6"),
        (["-x.wav"], r"(?s)Unrecognized options.*to name it: \./-x\.wav"),
    ],
)
def test_requests_that_cannot_be_met(
    flags: list[str],
    message: str,
    voice: Path,
    make_wav: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wav = make_wav("-x.wav")
    monkeypatch.chdir(wav.parent)
    assert main(["timeline", str(wav), "--model", str(voice), *(flag.format(wav=wav) for flag in flags)]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_every_format_is_a_choice() -> None:
    assert sorted(get_args(Format)) == sorted(FORMATS)


def test_speakers_are_counted_and_their_number_may_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    one = FileTimeline(audio="a.wav", seconds=10.0, speech=5.0, segments=3, speakers=4, files=("a.csv",))
    show(TimelineResult(model="m", timelines=(one,), told_apart=True))
    assert "4 speakers (--voices says how many there are)" in capsys.readouterr().err
    show(TimelineResult(model="m", timelines=(one,)))
    assert "speaks for 5.0 s, 4 speakers\n" in capsys.readouterr().err
