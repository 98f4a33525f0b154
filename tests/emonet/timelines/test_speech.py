from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emonet.audio import decode
from emonet.timelines.options import TimelineOptions
from emonet.timelines.speech import FRAME, Span, SpeechModel, SpeechSpans

SILERO = TimelineOptions(pause=0.1, padding=0.03)  # its own defaults


def spans_of(probabilities: np.ndarray, samples: int, options: TimelineOptions, frames: int) -> list[tuple[int, int]]:
    spans, found = SpeechSpans(options), list[Span]()
    for start in range(0, len(probabilities), frames):
        found += spans.feed(probabilities[start : start + frames])
    found += spans.finish(samples)
    return [(one.start, one.end) for one in found]


def heard(samples: np.ndarray, block: int) -> np.ndarray:
    model = SpeechModel()
    parts = [model.feed(samples[start : start + block]) for start in range(0, len(samples), block)]
    return np.concatenate([*parts, model.finish()])


def test_speech_is_where_silero_finds_it(corpora: Path) -> None:
    pytest.importorskip("onnxruntime")
    silero = pytest.importorskip("silero_vad.utils_vad")
    import torch

    samples = decode(corpora / "speech" / "jfk.flac").samples
    file = str(Path(silero.__file__).parent / "data" / "silero_vad.onnx")
    for part in (samples, samples[:30_001], np.concatenate([samples[40_000:70_000], samples[:9_999]])):
        wanted = silero.get_speech_timestamps(torch.from_numpy(part), silero.OnnxWrapper(file))
        assert wanted
        found = spans_of(heard(part, 12_345), len(part), SILERO, 100)
        assert found == [(one["start"], one["end"]) for one in wanted]


def test_probabilities_do_not_depend_on_blocks(corpora: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("silero_vad")
    samples = decode(corpora / "speech" / "jfk.flac").samples
    whole = heard(samples, len(samples))
    assert len(whole) == -(-len(samples) // FRAME)
    for block in (1000, FRAME, 77_777):
        np.testing.assert_array_equal(heard(samples, block), whole)


def test_nothing_has_no_speech() -> None:
    assert spans_of(np.zeros(0, np.float32), 0, SILERO, 10) == []


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    frames=st.integers(1, 120),
    pause=st.sampled_from([40, 100, 300]),
    padding=st.sampled_from([0, 30, 100, 200]),
    lacking=st.integers(0, FRAME - 1),
    block=st.integers(1, 40),
)
def test_spans_of_a_stream_are_those_of_get_speech_timestamps(
    seed: int, frames: int, pause: int, padding: int, lacking: int, block: int
) -> None:
    silero = pytest.importorskip("silero_vad.utils_vad")
    steps = np.random.default_rng(seed).normal(0, 0.25, frames)
    probabilities = np.clip(np.cumsum(steps) % 1.2, 0, 1).astype(np.float32)
    samples = frames * FRAME - lacking
    wanted = silero.get_speech_timestamps_from_probs(
        probabilities.tolist(),
        min_silence_duration_ms=pause,
        speech_pad_ms=padding,
        audio_length_samples=samples,
    )
    options = TimelineOptions(pause=pause / 1000, padding=padding / 1000)
    assert spans_of(probabilities, samples, options, block) == [(one["start"], one["end"]) for one in wanted]
