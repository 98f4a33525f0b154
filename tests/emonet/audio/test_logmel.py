from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

from emonet.audio import LogMel, pad
from emonet.windows import SAMPLE_RATE, Window

pytestmark = pytest.mark.numeric


def speech_like(seconds: float, gain: float = 0.1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tone = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 20))
    return (gain * (tone * (1 + np.sin(6 * time)) + 0.01 * rng.standard_normal(len(time)))).astype(np.float32)


def reference(waveform: np.ndarray, mels: int, window: Window) -> np.ndarray:
    extractor = WhisperFeatureExtractor(feature_size=mels, chunk_length=30)
    features = extractor(
        waveform, sampling_rate=SAMPLE_RATE, padding="max_length", max_length=window.samples, truncation=True
    )
    return np.asarray(features["input_features"])[0]


@pytest.mark.parametrize("mels", [80, 128])
@pytest.mark.parametrize(("seconds", "heard"), [(30.0, 0.1), (30.0, 3.7), (8.0, 8.0), (8.0, 9.5), (1.0, 0.33)])
def test_equals_whispers_own_features(mels: int, seconds: float, heard: float) -> None:
    window, waveform = Window(seconds), speech_like(heard)
    ours = LogMel(mels)(pad([waveform], window))[0].numpy()
    assert ours.shape == (mels, window.mel_frames)
    np.testing.assert_allclose(ours, reference(waveform, mels, window), atol=1e-4)


def test_a_loud_neighbour_does_not_change_a_quiet_clip() -> None:
    window = Window(2.0)
    clips = [speech_like(1.5, gain=1e-3), speech_like(2.0, gain=0.9, seed=1)]
    together = LogMel()(pad(clips, window)).numpy()
    for row, clip in zip(together, clips, strict=True):
        np.testing.assert_allclose(row, reference(clip, 80, window), atol=1e-4)


def test_stays_in_float32_under_autocast() -> None:
    waveforms = pad([speech_like(1.0)], Window(1.0))
    plain = LogMel()(waveforms)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(LogMel()(waveforms), plain)


def test_pad_cuts_and_fills_without_touching_its_input() -> None:
    window = Window(0.5)
    long, short = np.ones(10_000, np.float32), np.full(3, 0.5, np.float32)
    padded = pad([long, short], window)
    assert padded.shape == (2, window.samples)
    assert padded[0].eq(1).all()
    assert padded[1, :3].eq(0.5).all()
    assert padded[1, 3:].eq(0).all()
    assert long.shape == (10_000,)
