from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from emonet import EmotionPipeline
from emonet.errors import RequestError
from emonet.inference import StreamScore
from experiments.cli import main
from experiments.core import console
from experiments.listen import sources
from experiments.listen.view import Lines, Screen, sparkline, view_of

pytestmark = pytest.mark.numeric
RATE = 16_000


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Standard input as a pipe: its writing end."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as file:
        monkeypatch.setattr("sys.stdin", file)
        yield writing


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_file_gives_a_line_of_json_per_hop(
    voice: Path, make_wav: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_wav(seconds=3.3)
    assert main(["listen", str(path), "--model", str(voice), "--fast", "--json", "--hop", "0.5"]) == 0
    out, err = capsys.readouterr()
    found = lines_of(out)
    assert [one["end"] for one in found] == [0.5, 1, 1.5, 2, 2.5, 3, 3.3]
    assert list(found[0]["scores"].values()) == sorted(found[0]["scores"].values(), reverse=True)
    assert found[-1]["error"] is None
    assert "7 hops scored" in err
    whole = EmotionPipeline.from_folder(voice)(path)  # its first second
    assert found[1]["scores"] == pytest.approx(whole, abs=2e-2)


def test_sound_unlike_that_of_the_training_is_told(
    voice: Path, knowing_voice: Path, make_wav: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(make_wav(seconds=2.0))
    assert main(["listen", path, "--model", str(voice), "--fast", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "unlike what" not in err
    assert main(["listen", path, "--model", str(knowing_voice), "--fast", "--json"]) == 0
    out, err = capsys.readouterr()
    far = sum(one["unfamiliarity"] > 1 for one in lines_of(out))
    assert far == 2
    assert "2 hops unlike what the model was trained on" in err


def test_a_file_is_heard_at_its_own_pace(make_wav: Callable[..., Path]) -> None:
    started = time.monotonic()
    chunks = [len(chunk) for chunk in sources.file_chunks(make_wav(seconds=0.45), fast=False)]
    assert 0.44 < time.monotonic() - started < 5
    assert chunks == [1600] * 4 + [800]


def test_files_longer_than_a_block_are_heard_whole(make_wav: Callable[..., Path]) -> None:
    chunks = [len(chunk) for chunk in sources.file_chunks(make_wav(seconds=31.5), fast=True)]
    assert len(chunks) > 1
    assert sum(chunks) == 31.5 * RATE


def test_lines_and_a_summary_where_stderr_is_no_terminal(
    voice: Path, make_wav: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["listen", str(make_wav(seconds=2.0)), "--model", str(voice), "--fast", "--top", "2"]
    table = tmp_path / "hops.csv"
    assert main([*command, "--csv", str(table)]) == 0
    assert main([*command, "--csv", str(table)]) == 0  # appended
    out, err = capsys.readouterr()
    assert out == ""
    first, second, *_ = [line for line in err.splitlines() if line.startswith("0:0")]
    assert first.startswith("0:01.0  ")
    assert first.count(",") == 1
    assert second.startswith("0:02.0  ")
    assert "2 hops scored; scores" in err
    assert "on average: " in err
    rows = pd.read_csv(table)
    assert rows["end"].tolist() == [1, 2, 1, 2]
    assert list(rows.columns) == [
        "time",
        "start",
        "end",
        "late_s",
        "fear",
        "sadness",
        "anger",
        "skipped",
        "notices",
        "error",
    ]


def test_a_table_of_another_model_is_left_alone(
    voice: Path, make_wav: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "hops.csv"
    table.write_text("time,joy\n1,2\n")
    assert main(["listen", str(make_wav()), "--model", str(voice), "--csv", str(table)]) == 2
    assert "the table has other columns" in capsys.readouterr().err
    assert table.read_text() == "time,joy\n1,2\n"
    assert main(["listen", str(make_wav()), "--model", str(voice), "--csv", str(tmp_path / "no" / "a.csv")]) == 2
    assert "folder does not exist" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_table_that_cannot_be_written_costs_no_score(
    voice: Path, make_wav: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["listen", str(make_wav(seconds=2.0)), "--model", str(voice), "--fast", "--csv", "/dev/full"]
    assert main(command) == 1
    err = capsys.readouterr().err
    assert "the table could not be written" in err
    assert "No space left" in err
    assert "2 hops scored" in err


def test_standard_input_raw_and_late(voice: Path, stdin: int, capsys: pytest.CaptureFixture[str]) -> None:
    samples = (3000 * np.sin(np.arange(2 * RATE) / 20)).astype("<i2").tobytes()

    def write() -> None:
        for first in range(0, len(samples), 5_001):
            os.write(stdin, samples[first : first + 5_001])
        os.close(stdin)

    threading.Thread(target=write).start()
    command = ["listen", "-", "--rate", "16000", "--model", str(voice), "--json", "--fast"]
    assert main(command) == 0
    out, _ = capsys.readouterr()
    assert [one["end"] for one in lines_of(out)] == [1, 2]


def test_standard_input_without_a_rate(voice: Path, stdin: int, capsys: pytest.CaptureFixture[str]) -> None:
    os.write(stdin, b"no sound at all")
    os.close(stdin)
    assert main(["listen", "-", "--model", str(voice)]) == 2
    assert "what comes is no WAV" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--rate", "16000"], ["--rate", "16000", "--format", "s16le"]])
def test_standard_input_on_which_nothing_comes(
    flags: list[str], voice: Path, stdin: int, capsys: pytest.CaptureFixture[str]
) -> None:
    os.close(stdin)
    assert main(["listen", "-", "--model", str(voice), *flags]) == 2
    assert "nothing came on standard input" in capsys.readouterr().err


def test_a_beginning_that_could_be_a_header_ends(voice: Path, stdin: int, capsys: pytest.CaptureFixture[str]) -> None:
    os.write(stdin, b"RIFF")
    os.close(stdin)
    assert main(["listen", "-", "--rate", "16000", "--model", str(voice)]) == 0
    assert "0 hops scored" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "hint"), [("folder", "emonet listen FILE"), ("pipe", "emonet listen - < ")])
def test_what_is_no_file(kind: str, hint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / kind
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    assert main(["listen", str(path)]) == 2
    assert re.search(rf"(?s)this is no file.*{hint}", capsys.readouterr().err)


def test_ctrl_c_ends_with_a_summary(
    voice: Path, stdin: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "hops.csv"

    def interrupt() -> None:
        os.write(stdin, np.zeros(RATE, "<i2").tobytes())
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and (not table.exists() or len(table.read_text().splitlines()) < 2):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    command = ["listen", "-", "--rate", "16000", "--model", str(voice), "--csv", str(table)]
    assert main(command) == 0
    os.close(stdin)
    err = capsys.readouterr().err
    assert "heard 1.0 s of standard input, 1 hop scored" in err
    assert "note digital silence" in err


@pytest.mark.parametrize(("path", "message"), [("none.wav", "there is no such file"), ("broken.wav", "RIFF|format")])
def test_files_that_cannot_be_heard(
    voice: Path, tmp_path: Path, path: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    assert main(["listen", str(tmp_path / path), "--model", str(voice)]) in (1, 2)
    err = capsys.readouterr().err
    assert "error:" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_it_quietly(voice: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "experiments.cli",
        "listen",
        "-",
        "--rate",
        "16000",
        "--model",
        str(voice),
        "--json",
    ]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONSAFEPATH": ""},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        second = np.zeros(RATE, "<i2").tobytes()
        process.stdin.write(second)
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["end"] == 1
        process.stdout.close()
        try:
            for _ in range(200):
                process.stdin.write(second)
                process.stdin.flush()
                time.sleep(0.05)
        except BrokenPipeError:
            pass
        assert process.wait(60) in (0, 1)
        assert process.stderr.read() == b""


class FakeError(Exception):
    """PortAudio's."""


class FakeStream:
    """An input that hears a second of a tone, and is unplugged."""

    active = False

    def __init__(self, *, samplerate: int, callback: Callable[..., None], **options: Any) -> None:
        self.rate, self.callback, self.options, self.closed = samplerate, callback, options, False

    def start(self) -> None:
        tone = (0.1 * np.sin(np.arange(self.rate) / 20)).astype(np.float32)
        for first in range(0, self.rate, 800):
            self.callback(tone[first : first + 800, None], 800, None, SimpleNamespace(input_overflow=first == 800))

    def close(self) -> None:
        self.closed = True


def portaudio(monkeypatch: pytest.MonkeyPatch, *, inputs: int = 1, stream: Any = FakeStream) -> None:
    """Another library in sounddevice's place: no machine of tests has a microphone."""
    devices = [{"name": "speakers", "max_input_channels": 0}] + [{"name": "built-in", "max_input_channels": 2}] * inputs

    def query(device: Any = None, kind: str | None = None) -> Any:
        if kind is None:
            return devices
        if not inputs or device == "no such":
            raise ValueError(f"No input device matching {device!r}")
        return {"default_samplerate": 8_000.0}

    module = SimpleNamespace(query_devices=query, PortAudioError=FakeError, InputStream=stream)
    monkeypatch.setitem(sys.modules, "sounddevice", module)


def test_a_microphone_until_it_is_unplugged(
    voice: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    portaudio(monkeypatch)
    monkeypatch.setattr(sources, "PATIENCE", 0.02)
    assert main(["listen", "--model", str(voice)]) == 0
    err = capsys.readouterr().err
    assert "heard 1.0 s of the microphone, 1 hop scored" in err
    assert "1 chunk of the microphone lost" in err


def test_microphones_that_are_not_there(
    voice: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["listen", "--model", str(voice)]
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert main(command) == 2
    assert "pip install 'emonet[live]'" in capsys.readouterr().err
    portaudio(monkeypatch, inputs=0)
    assert main(command) == 2
    assert "there is no microphone" in capsys.readouterr().err
    portaudio(monkeypatch)
    assert main([*command, "--microphone", "no such"]) == 2
    err = capsys.readouterr().err
    assert "there is no such microphone" in err
    assert "1 built-in" in err

    def refuse(**options: Any) -> None:
        raise FakeError("Device unavailable [PaErrorCode -9985]")

    portaudio(monkeypatch, stream=refuse)
    assert main(command) == 2
    err = capsys.readouterr().err
    assert "the microphone cannot be opened" in err
    assert "-9985" in err


def test_without_the_library_portaudio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    with pytest.raises(RequestError, match=r"(?s)needs the library PortAudio.*libportaudio2"):
        sources._sounddevice()


def test_the_picture(voice: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = EmotionPipeline.from_folder(voice).target_spec
    screen = Console(
        file=io.StringIO(), force_terminal=True, width=100, color_system="truecolor", _environ={"TERM": "xterm"}
    )
    monkeypatch.setattr(screen, "_encoding", "utf-8", raising=False)
    monkeypatch.setattr(console, "console", screen)
    view = Screen(spec, top=2, hop=1.0, title="a.wav")
    with view:
        for number in range(5):
            view.level(-20.0)
            scores = {"anger": number % 4 + 0.5, "fear": 1.0, "sadness": 0.1}
            view.score(StreamScore(0.0, number + 1.0, scores, notices=("odd",), late_s=0.123), scores)
    shown = Console(file=io.StringIO(), width=100)
    shown.print(view.picture())
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    assert "a.wav   level █████████████·······   0:05.0   123 ms late" in text
    assert "Anger" in text
    assert "Sadness" not in text
    assert "odd" in text
    assert any(mark in text for mark in "▂▃▄▅▆")
    view.score(StreamScore(0.0, 6.0, error="bad"), {})
    shown.print(view.picture())
    assert "bad" in shown.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("environment", "kind"),
    [({"TERM": "xterm"}, Screen), ({"TERM": "dumb"}, Lines), ({"TERM": "xterm", "NO_COLOR": "1"}, Lines)],
)
def test_terminals_that_cannot_show_it_get_lines(
    voice: Path, environment: dict[str, str], kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = EmotionPipeline.from_folder(voice).target_spec
    file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(console, "console", Console(file=file, force_terminal=True, _environ=environment))
    assert type(view_of(spec, top=3, hop=1.0, quiet=False, title="")) is kind
    assert type(view_of(spec, top=3, hop=1.0, quiet=True, title="")) is not kind


def test_a_sparkline_is_on_the_targets_scale(voice: Path) -> None:
    from collections import deque

    target = EmotionPipeline.from_folder(voice).target_spec["anger"]
    assert sparkline(deque([0.0, 2.0, 4.0, 9.0, -1.0]), target) == "▁▅███▁"[:3] + "█▁"
    assert len(sparkline(deque([1.0] * 600), target)) <= 30
