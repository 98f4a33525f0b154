from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.use_model import make_voice
from emonet import EmotionPipeline
from emonet.errors import EmonetError, RequestError
from emonet.inference import SampleScores, StreamScore, hops
from emonet.windows import SAMPLE_RATE

pytestmark = pytest.mark.numeric
NEAR = 1e-4  # the samples are the same to the bit; passes of other sizes sum in another order


@pytest.fixture(scope="module")
def pipeline(voice: Path) -> EmotionPipeline:
    return EmotionPipeline.from_folder(voice)


def speech(seconds: float, rate: int = SAMPLE_RATE, seed: int = 0) -> np.ndarray:
    """Something with ups and downs: tones in noise."""
    time_ = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(0, 0.01, len(time_))
    voiced = np.sin(2 * np.pi * (150 + 40 * np.sin(3 * time_)) * time_) * (0.5 + 0.5 * np.sin(7 * time_))
    return (0.3 * voiced + noise).astype(np.float32)


def heard(
    pipeline: EmotionPipeline, samples: np.ndarray, cuts: Sequence[int] = (), **options: Any
) -> list[StreamScore]:
    with pipeline.open_stream(options.pop("rate", SAMPLE_RATE), lossless=True, **options) as stream:
        scores = [score for part in np.split(samples, list(cuts)) for score in stream.feed(part)]
        return [*scores, *stream.close()]


def same(found: Sequence[StreamScore], expected: Sequence[StreamScore]) -> None:
    assert [(one.start, one.end, one.notices, one.error) for one in found] == [
        (one.start, one.end, one.notices, one.error) for one in expected
    ]
    for one, other in zip(found, expected, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=NEAR)


def test_scores_are_those_of_the_batch_at_the_same_windows(pipeline: EmotionPipeline) -> None:
    samples = speech(3.3)
    found = heard(pipeline, samples, hop=0.5)
    assert [(one.start, one.end) for one in found] == [
        (0, 0.5), (0, 1), (0.5, 1.5), (1, 2), (1.5, 2.5), (2, 3), (2.3, 3.3),
    ]  # fmt: skip
    windows = [samples[round(SAMPLE_RATE * one.start) : round(SAMPLE_RATE * one.end)] for one in found]
    for one, batch in zip(found, pipeline.score_samples(windows), strict=True):
        assert one.scores == pytest.approx(batch.scores, abs=NEAR)
        assert list(one.scores) == list(pipeline.targets)
        assert (one.error, one.skipped) == (None, 0)
        assert one.late_s > 0


@settings(max_examples=8)
@given(cuts=st.lists(st.integers(0, 66_150), max_size=30), rate=st.sampled_from([16_000, 22_050, 44_100]))
def test_any_chunks_of_the_same_samples_give_the_same_scores(
    pipeline: EmotionPipeline, cuts: list[int], rate: int
) -> None:
    samples = speech(1.5, rate)
    same(heard(pipeline, samples, sorted(cuts), rate=rate, hop=0.25), heard(pipeline, samples, rate=rate, hop=0.25))


def test_single_samples_are_chunks_too(pipeline: EmotionPipeline) -> None:
    samples = speech(0.6, 8_000)
    same(
        heard(pipeline, samples, range(len(samples)), rate=8_000, hop=0.5),
        heard(pipeline, samples, rate=8_000, hop=0.5),
    )


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_resampling_is_that_of_the_whole(pipeline: EmotionPipeline, rate: int) -> None:
    samples = speech(2.2, rate)
    whole = soxr.resample(samples, rate, SAMPLE_RATE)
    found = heard(pipeline, samples, range(0, len(samples), 999), rate=rate)
    assert [one.end for one in found] == [1, 2, pytest.approx(2.2)]
    windows = [whole[round(SAMPLE_RATE * one.start) : round(SAMPLE_RATE * one.end)] for one in found]
    for one, batch in zip(found, pipeline.score_samples(windows), strict=True):
        assert one.scores == pytest.approx(batch.scores, abs=NEAR)


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.float64])
def test_types_of_samples(pipeline: EmotionPipeline, kind: Any) -> None:
    samples = speech(1.0)
    full = np.iinfo(kind).max if issubclass(kind, np.integer) else 1
    (found,), (expected,) = (heard(pipeline, one) for one in ((samples * float(full)).astype(kind), samples))
    assert found.scores == pytest.approx(expected.scores, abs=NEAR)


def test_channels_are_mixed_as_in_files(pipeline: EmotionPipeline) -> None:
    samples = speech(1.0)
    (mono,) = heard(pipeline, samples)
    (both,) = heard(pipeline, np.column_stack([samples, samples]))
    (against,) = heard(pipeline, np.column_stack([samples, -samples]))
    (empty,) = heard(pipeline, np.column_stack([samples, np.zeros_like(samples)]))
    for one in (both, against, empty):
        assert one.scores == pytest.approx(mono.scores, abs=NEAR)
    assert not any("channel" in notice for notice in both.notices)
    assert any("cancel each other" in notice for notice in against.notices)
    assert any("1 of 2 channels is empty" in notice for notice in empty.notices)


def test_float_samples_of_another_scale(pipeline: EmotionPipeline) -> None:
    samples = speech(1.0)
    (plain,) = heard(pipeline, samples)
    (large,) = heard(pipeline, samples * 32768)
    assert large.scores == pytest.approx(plain.scores, abs=NEAR)
    assert any("taken as 16-bit" in notice for notice in large.notices)
    (odd,) = heard(pipeline, samples * 1e20)
    assert odd.scores == {}
    assert odd.error is not None
    assert "unknown scale" in odd.error


@pytest.mark.parametrize("rate", [SAMPLE_RATE, 44_100])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_damaged_sample_costs_the_hops_that_hear_it(pipeline: EmotionPipeline, bad: float, rate: int) -> None:
    samples = speech(4.0, rate)
    damaged = samples.copy()
    damaged[round(1.3 * rate)] = bad
    found, expected = (heard(pipeline, one, [round(1.7 * rate)], rate=rate, hop=0.5) for one in (damaged, samples))
    wrong = [one.end for one in found if one.error is not None]
    assert wrong == [1.5, 2.0]
    for one, other in zip(found, expected, strict=True):
        if one.error is None:
            assert one.scores == pytest.approx(other.scores, abs=NEAR)
        else:
            assert one.scores == {}
            assert "NaN or infinite" in one.error


def test_damage_here_and_there_is_remembered_in_little(pipeline: EmotionPipeline) -> None:
    samples = speech(6.0)
    samples[:: SAMPLE_RATE // 4] = np.nan
    samples[round(3.1 * SAMPLE_RATE) : round(4.4 * SAMPLE_RATE)] = 0.1
    samples[round(3.5 * SAMPLE_RATE)] = 0.2
    with pipeline.open_stream(SAMPLE_RATE, hop=0.25, lossless=True) as stream:
        found = [one for first in range(0, len(samples), 100) for one in stream.feed(samples[first : first + 100])]
        assert len(stream._damaged) <= 2
    assert [one.end for one in found if one.error is None] == [4.25, 4.5]


def test_digital_silence_is_scored_and_told(pipeline: EmotionPipeline) -> None:
    (found,) = heard(pipeline, np.zeros(SAMPLE_RATE, np.int16))
    assert found.notices == ("digital silence: every sample is the same",)
    assert set(found.scores) == set(pipeline.targets)
    assert np.isfinite(list(found.scores.values())).all()


def test_what_is_too_short_is_not_scored(pipeline: EmotionPipeline) -> None:
    assert heard(pipeline, speech(0.45)) == []
    assert heard(pipeline, np.zeros(0, np.float32)) == []
    ends = [one.end for one in heard(pipeline, speech(0.9), hop=0.2)]
    assert ends == pytest.approx([0.6, 0.8, 0.9])


def test_closing_scores_the_rest_once(pipeline: EmotionPipeline) -> None:
    stream = pipeline.open_stream(SAMPLE_RATE)
    stream.feed(speech(0.8))
    (last,) = stream.close()
    assert (last.start, last.end) == (0, 0.8)
    assert stream.close() == []
    with pytest.raises(RequestError, match=r"(?s)the stream is closed.*open_stream"):
        stream.feed(speech(0.1))


def test_a_block_that_fails_scores_nothing_more(pipeline: EmotionPipeline) -> None:
    stream = pipeline.open_stream(SAMPLE_RATE)

    def fail() -> None:
        with stream:
            stream.feed(speech(0.8))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert stream.take() == []
    with pytest.raises(RequestError, match="closed"):
        stream.feed(speech(0.1))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(10, np.uint8), r"(?s)of another type.*int16, int32 or float32.*uint8"),
        (np.zeros(10, complex), r"(?s)of another type.*complex128"),
        (np.array(["a"]), r"of another type"),
        (np.array([1, 2, 3]), r"(?s)of another type.*int64"),
        (np.zeros((), np.float32), r"(?s)of another shape.*\(n, channels\).*\(\)"),
        (np.zeros((2, 480), np.float32), r"(?s)of another shape.*samples\.T"),
        (np.zeros((2, 2, 2), np.float32), r"of another shape"),
        (np.zeros((5, 0), np.float32), r"of another shape"),
        (np.zeros((5, 2), np.float32), r"(?s)number of channels cannot change.*expected: +1\n.*found: +2"),
    ],
)
def test_samples_of_another_kind_are_refused(pipeline: EmotionPipeline, samples: Any, message: str) -> None:
    with pipeline.open_stream(SAMPLE_RATE) as stream:
        stream.feed(speech(0.1))
        with pytest.raises(RequestError, match=message):
            stream.feed(samples)
        stream.feed(speech(0.5))  # the stream goes on
        (found,) = stream.close()
    assert found.end == pytest.approx(0.6)


def test_another_rate_is_refused(pipeline: EmotionPipeline) -> None:
    with pipeline.open_stream(SAMPLE_RATE) as stream:
        stream.feed(speech(0.1), rate=SAMPLE_RATE)
        with pytest.raises(RequestError, match=r"(?s)rate cannot change.*16000 Hz.*44100 Hz.*open another"):
            stream.feed(speech(0.1), rate=44_100)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0}, "rate is out of range"),
        ({"rate": True}, "rate is out of range"),
        ({"rate": 10**7}, r"(?s)rate is out of range.*1000 to 768000 Hz"),
        ({"window": 1.5}, r"(?s)window is out of range.*0\.5 to 1 s.*1\.5 s"),
        ({"window": 0.2}, "window is out of range"),
        ({"window": float("nan")}, "window is out of range"),
        ({"hop": 0.0}, "hop is out of range"),
        ({"hop": float("nan")}, "hop is out of range"),
        ({"hop": 0.9, "window": 0.6}, r"(?s)hop is out of range.*window of 0\.6 s"),
    ],
)
def test_streams_that_make_no_sense(pipeline: EmotionPipeline, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        pipeline.open_stream(**{"rate": SAMPLE_RATE, **options})


class Slow:
    """A pipeline's scoring that waits for a sign."""

    def __init__(self, pipeline: EmotionPipeline) -> None:
        self.pipeline, self.go, self.passes = pipeline, threading.Semaphore(0), []

    def __call__(self, sounds: Sequence[np.ndarray]) -> list[SampleScores]:
        self.passes.append(len(sounds))
        assert self.go.acquire(timeout=30)
        return EmotionPipeline.score_samples(self.pipeline, sounds)


@pytest.fixture
def slow(pipeline: EmotionPipeline, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    scoring = Slow(pipeline)
    monkeypatch.setattr(pipeline, "score_samples", scoring)
    yield scoring
    for _ in range(100):
        scoring.go.release()


def soon(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_stream_that_floods_skips_hops_and_says_so(pipeline: EmotionPipeline, slow: Slow) -> None:
    with pipeline.open_stream(SAMPLE_RATE) as stream:
        assert stream.feed(speech(1.0)) == []  # nothing waits for the scores
        soon(lambda: slow.passes)
        for _ in range(5):
            assert stream.feed(speech(1.0)) == []
        assert stream.skipped == 4
        slow.go.release()
        (first,) = stream.take(timeout=30.0)
        assert (first.end, first.skipped) == (1, 0)
        slow.go.release()
        (latest,) = stream.take(timeout=30.0)
        assert (latest.end, latest.skipped) == (6, 4)
        assert "4 hops were skipped: sound comes faster than it is scored" in latest.notices
        assert stream.take(timeout=0.01) == []


def test_a_lossless_stream_waits_instead(pipeline: EmotionPipeline, slow: Slow) -> None:
    for _ in range(50):
        slow.go.release()
    found = heard(pipeline, speech(20.0))
    assert [one.end for one in found] == list(range(1, 21))
    assert max(slow.passes) <= hops.TOGETHER


def test_hops_of_several_streams_are_scored_together(pipeline: EmotionPipeline, slow: Slow) -> None:
    streams = [pipeline.open_stream(SAMPLE_RATE) for _ in range(5)]
    streams[0].feed(speech(1.0))
    soon(lambda: slow.passes)
    for number, stream in enumerate(streams[1:]):
        stream.feed(speech(1.0, seed=number))
    slow.go.release()
    slow.go.release()
    found = [stream.take(timeout=30.0)[0] for stream in streams]
    assert slow.passes == [1, 4]
    for number, one in enumerate(found[1:]):
        (alone,) = EmotionPipeline.score_samples(pipeline, [speech(1.0, seed=number)])
        assert one.scores == pytest.approx(alone.scores, abs=NEAR)


def test_a_microphone_goes_before_a_file(pipeline: EmotionPipeline, slow: Slow) -> None:
    live, file = pipeline.open_stream(SAMPLE_RATE), pipeline.open_stream(SAMPLE_RATE, lossless=True)
    feeding = threading.Thread(target=lambda: file.feed(speech(8.0)))
    feeding.start()
    soon(lambda: slow.passes)
    soon(lambda: file._open_hops == 8)
    live.feed(speech(1.0))
    slow.go.release()
    slow.go.release()
    assert live.take(timeout=30.0)[0].end == 1
    for _ in range(9):
        slow.go.release()
    feeding.join(30)
    assert not feeding.is_alive()


def test_streams_of_threads_do_not_meet(pipeline: EmotionPipeline) -> None:
    found: dict[int, list[StreamScore]] = {}

    def listen(number: int) -> None:
        found[number] = heard(pipeline, speech(3.0, seed=number), range(0, 48_000, 1_111), hop=0.5)

    threads = [threading.Thread(target=listen, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for number in range(4):
        same(found[number], heard(pipeline, speech(3.0, seed=number), hop=0.5))


def test_a_hop_that_cannot_be_scored_costs_its_stream_only(
    pipeline: EmotionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fragile(sounds: Sequence[np.ndarray]) -> list[SampleScores]:
        if any(sound.max() > 0.9 for sound in sounds):
            raise ZeroDivisionError("loud")
        return EmotionPipeline.score_samples(pipeline, sounds)

    monkeypatch.setattr(pipeline, "score_samples", fragile)
    good, bad = pipeline.open_stream(SAMPLE_RATE), pipeline.open_stream(SAMPLE_RATE)
    bad.feed(3 * speech(1.0))
    good.feed(speech(1.0))
    assert good.take(timeout=30.0)[0].scores
    with pytest.raises(EmonetError, match=r"(?s)hop of the stream could not be scored.*ZeroDivisionError: loud"):
        bad.take(timeout=30.0)
    bad.feed(speech(1.0))  # it goes on
    (found,) = bad.take(timeout=30.0)
    assert found.end == 2


def test_memory_is_bounded(pipeline: EmotionPipeline) -> None:
    chunk = speech(0.5, 48_000)
    with pipeline.open_stream(48_000) as stream:
        stream.feed(np.tile(chunk, 6))
        stream.take(timeout=30.0)
        tracemalloc.start()
        try:
            for _ in range(120):
                stream.feed(chunk)
            soon(lambda: not stream._open_hops)
            held = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
    assert held < 500_000  # a minute would be 3.8 MB at 16 kHz


def test_an_idle_thread_ends_and_keeps_nothing(voice: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hops, "IDLE", 0.05)
    pipeline = EmotionPipeline.from_folder(voice)
    (first,) = heard(pipeline, speech(1.0))
    soon(partial(idle, pipeline._hops))
    (again,) = heard(pipeline, speech(1.0))  # another thread
    assert again.scores == first.scores
    gone = weakref.ref(pipeline)
    del pipeline
    gc.collect()
    soon(lambda: gone() is None)


def idle(scorer: hops.HopScorer) -> bool:
    return scorer._thread is None


@pytest.mark.slow
@pytest.mark.pretrained
def test_real_speech_with_whisper_base(corpora: Path, whisper_base: Path, tmp_path: Path) -> None:
    # In bf16 passes of other sizes differ by up to 2e-4 on processors with AMX.
    pipeline = EmotionPipeline.from_folder(make_voice(whisper_base, tmp_path), precision="float32")
    samples, rate = sf.read(corpora / "speech" / "jfk.flac", dtype="int16")
    found = heard(pipeline, samples, range(0, len(samples), 4_410), rate=rate)
    mono = soxr.resample((samples / 32768).mean(1).astype(np.float32), rate, SAMPLE_RATE)
    windows = [mono[round(SAMPLE_RATE * one.start) : round(SAMPLE_RATE * one.end)] for one in found]
    assert len(found) == 11
    for one, batch in zip(found, pipeline.score_samples(windows), strict=True):
        assert one.scores == pytest.approx(batch.scores, abs=NEAR)
        assert one.uncertainties.keys() == batch.uncertainties.keys()


def test_a_process_may_end_while_a_hop_is_scored(tmp_path: Path) -> None:
    """A thread that is within PyTorch while Python ends would abort it."""
    script = tmp_path / "end.py"
    script.write_text(
        "import threading, numpy as np, torch\n"
        "from emonet.inference.hops import Hop, HopScorer\n"
        "begun = threading.Event()\n"
        "def score(sounds):\n"
        "    begun.set()\n"
        "    for _ in range(50_000):\n"
        "        torch.nn.functional.gelu(torch.ones(1000))\n"
        "    raise ValueError\n"
        "sound = np.random.default_rng(0).normal(0, 0.1, (16000, 1)).astype(np.float32)\n"
        "HopScorer().submit(Hop(0, score, lambda outcome: print('delivered'), 0.0, 1.0, sound, 0.0, False))\n"
        "begun.wait()\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "delivered\n", "")
