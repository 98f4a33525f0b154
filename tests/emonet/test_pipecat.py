"""The Pipecat processor in Pipecat's own test pipeline, on a small random model."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emonet import EmotionPipeline

pytest.importorskip("pipecat", reason="pipecat fights with our pins (docs/live.md): an environment of its own has it")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
RATE = 24_000


def frames_of(sound: np.ndarray, channels: int = 1) -> list[Any]:
    from pipecat.frames.frames import InputAudioRawFrame

    samples = np.repeat((sound * 32767).astype("<i2")[:, None], channels, 1)
    return [InputAudioRawFrame(part.tobytes(), RATE, channels) for part in np.array_split(samples, 50)]


def ran(voice: Path, frames: list[Any]) -> list[Any]:
    """The `EmotionFrame`s that come down, and that all other frames do."""
    from pipecat.tests.utils import run_test

    from emonet.pipecat import EmotionFrame, EmotionProcessor

    processor = EmotionProcessor(EmotionPipeline.from_folder(voice, device="cpu"))
    down, _ = asyncio.run(run_test(processor, frames_to_send=frames, start_timeout=30))
    assert [one.id for one in down if not isinstance(one, EmotionFrame)] == [one.id for one in frames]
    return [one for one in down if isinstance(one, EmotionFrame)]


def test_scores_of_each_utterance_in_order(voice: Path) -> None:
    from pipecat.frames.frames import VADUserStartedSpeakingFrame, VADUserStoppedSpeakingFrame

    random = np.random.default_rng(0)
    silence, short, long = (random.uniform(-a, a, round(s * RATE)) for a, s in ((0.001, 6), (0.5, 0.8), (0.5, 2.6)))
    start, stop = VADUserStartedSpeakingFrame, VADUserStoppedSpeakingFrame
    frames = [
        *frames_of(silence), start(start_secs=0.2), *frames_of(short, 2), stop(stop_secs=0.2),
        *frames_of(silence[:RATE]), start(start_secs=0.2), *frames_of(long), stop(stop_secs=0.2), stop(stop_secs=0.2),
    ]  # fmt: skip
    first, second = ran(voice, frames)
    assert (first.seconds, second.seconds) == pytest.approx((0.8 + 0.7, 2.6 + 0.7), abs=0.01)
    assert set(first.scores) == {"anger", "fear", "sadness"}
    assert first.scores != second.scores
    assert all(np.isfinite(score) for one in (first, second) for score in one.scores.values())


def test_nobody_speaks(voice: Path) -> None:
    assert ran(voice, frames_of(np.zeros(RATE))) == []
