from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from benchmarks import use
from benchmarks.use_hours import some_windows, timed_timeline
from benchmarks.use_model import write_hours
from benchmarks.use_streams import HOP, Live, listen, most_streams
from emonet import EmotionPipeline
from emonet.errors import EmonetError


@pytest.fixture(scope="module")
def pipeline(voice: Path) -> EmotionPipeline:
    return EmotionPipeline.from_folder(voice)


def test_a_recording_has_its_speech_again_and_again(tmp_path: Path) -> None:
    speech = np.linspace(-0.5, 0.5, 16_000).astype(np.float32)
    path = write_hours(speech, 2.5, tmp_path / "long.wav")
    samples, rate = sf.read(path, dtype="float32")
    assert rate == 16_000
    np.testing.assert_allclose(samples, np.tile(speech, 3)[:40_000], atol=1e-4)
    assert [len(one) for one in some_windows(path, 1.0, 4)] == [16_000, 16_000, 8_000]


def test_a_timeline_is_made_with_a_journal(pipeline: EmotionPipeline, tmp_path: Path) -> None:
    path = write_hours(np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32), 10.5, tmp_path / "a.wav")
    found = timed_timeline(pipeline, path, tmp_path, "sliding")
    assert (found.audio_s, found.factor) == (10.5, found.seconds / 10.5)
    assert 0 < found.first_s < found.seconds
    assert 2**26 < found.peak < 2**34
    lines = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert sum(len(line.get("pieces", ())) for line in lines) == found.segments >= 10


def test_a_timeline_without_a_segment_has_no_figures(pipeline: EmotionPipeline, tmp_path: Path) -> None:
    path = write_hours(np.full(16_000, 0.1, np.float32), 2.0, tmp_path / "a.wav")
    with pytest.raises(EmonetError, match="the timeline is not whole"):
        timed_timeline(pipeline, path, tmp_path, "speech")


def test_streams_in_real_time(pipeline: EmotionPipeline) -> None:
    speech = np.random.default_rng(0).normal(0, 0.1, 20_000).astype(np.float32)
    found = listen(pipeline, speech, 2, seconds=1.2)
    assert (found.streams, found.hops, found.skipped) == (2, 4, 0)
    assert 0 < found.p50 <= found.p95


def test_the_most_streams_is_the_last_that_was_in_time(
    pipeline: EmotionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(pipeline: EmotionPipeline, speech: np.ndarray, streams: int, *, seconds: float) -> Live:
        return Live(streams, 1, int(streams > 6), 0.1, 0.5)

    monkeypatch.setattr("benchmarks.use_streams.listen", found)
    most, tried = most_streams(pipeline, np.zeros(1, np.float32), (4, 6, 8, 12), seconds=1.0)
    assert most == 6
    assert [one.streams for one in tried] == [4, 6, 8]
    assert not Live(1, 1, 0, 0.1, HOP + 0.1).in_real_time


@pytest.mark.slow
def test_the_rows(voice: Path, tmp_path: Path) -> None:
    out = tmp_path / "use.json"
    use.main(["--model", str(voice), "--minutes", "0.2", "--times", "2", "--live-seconds", "1.1", "--out", str(out)])
    rows = json.loads(out.read_text())["rows"]
    assert len(rows) == 9
    assert {"streams at once in real time", "first line, model loaded", "memory, 0.4 minutes"} <= {
        row["name"] for row in rows
    }
    assert next(row for row in rows if "in turns" in row["name"])["reach"] == 5.0
