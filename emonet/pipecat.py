"""Pipecat: a processor that scores each utterance; it wants `pip install 'emonet[pipecat]'`."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr
from pipecat.frames.frames import CancelFrame, DataFrame, EndFrame, Frame, InputAudioRawFrame
from pipecat.frames.frames import VADUserStartedSpeakingFrame as Started
from pipecat.frames.frames import VADUserStoppedSpeakingFrame as Stopped
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from emonet.inference import EmotionPipeline
from emonet.windows import SAMPLE_RATE

BEFORE = 0.5  # seconds before speech that are heard, too, beside those that it takes to be noticed
KEPT = 5.0  # seconds that are kept while nobody speaks


@dataclass
class EmotionFrame(DataFrame):  # type: ignore[misc]
    """Scores of an utterance: target id -> mean over equal windows (in the target's units); its length in seconds."""

    scores: dict[str, float]
    seconds: float


class EmotionProcessor(FrameProcessor):  # type: ignore[misc]
    """Passes all frames on and, after each utterance, an `EmotionFrame`; its place is behind a `VADProcessor`."""

    def __init__(self, pipeline: EmotionPipeline, **options: Any) -> None:
        super().__init__(**options)
        self._pipeline, self._rate, self._speaks = pipeline, SAMPLE_RATE, False
        self._heard: list[np.ndarray] = []
        self._scoring: asyncio.Task[None] | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Hear what comes down the pipeline: scoring does not hold it up, and its end waits for the last scores."""
        await super().process_frame(frame, direction)
        if isinstance(frame, EndFrame) and self._scoring is not None:
            await asyncio.wait({self._scoring})
        elif isinstance(frame, CancelFrame) and self._scoring is not None:
            await self.cancel_task(self._scoring)
        elif direction == FrameDirection.DOWNSTREAM:
            self._hear(frame)
        await self.push_frame(frame, direction)

    def _hear(self, frame: Frame) -> None:
        if isinstance(frame, InputAudioRawFrame):
            self._rate = frame.sample_rate
            self._heard.append(np.frombuffer(frame.audio, "<i2").reshape(-1, frame.num_channels).mean(1) / 32768)
            if not self._speaks:
                self._keep(KEPT)
        elif isinstance(frame, Started) and not self._speaks:
            self._keep(frame.start_secs + BEFORE)
            self._speaks = True
        elif isinstance(frame, Stopped) and self._speaks:
            self._scoring = self.create_task(self._score(np.concatenate(self._heard), self._rate, self._scoring))
            self._heard, self._speaks = [], False

    def _keep(self, seconds: float) -> None:
        self._heard = [np.concatenate([np.zeros(0), *self._heard])[-math.ceil(seconds * self._rate) :]]

    async def _score(self, said: np.ndarray, rate: int, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait({before})  # frames go down in the order of the utterances
        sound = soxr.resample(said, rate, SAMPLE_RATE).astype(np.float32)
        parts = np.array_split(sound, max(1, math.ceil(len(sound) / self._pipeline.encoder.window.samples)))
        scored = [one.scores for one in await asyncio.to_thread(self._pipeline.score_samples, parts)]
        means = {target: float(np.mean([one[target] for one in scored])) for target in self._pipeline.targets}
        await self.push_frame(EmotionFrame(means, len(said) / rate))
