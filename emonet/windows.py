"""The window, or time grid: every count of samples, frames and states is derived from one window length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from emonet.errors import RequestError

SAMPLE_RATE = 16_000  # Hz, mono: what Whisper was trained on
HOP = 160  # samples, 10 ms per mel frame
N_FFT = 400  # samples, 25 ms per analysis window
CONV_STRIDE = 2  # mel frames per encoder state
STATE_SAMPLES = HOP * CONV_STRIDE  # 20 ms per encoder state
PRETRAINED_SECONDS = 30.0  # the window of every published Whisper


@dataclass(frozen=True, slots=True)
class Window:
    """How much of a clip a model hears.

    Args:
        seconds: length of the window; a multiple of 0.02 s (one encoder state) from 0.5 to 30.

    Raises:
        RequestError: if `seconds` is out of range or not a multiple of one state.
    """

    seconds: float = PRETRAINED_SECONDS

    def __post_init__(self) -> None:
        if not 0.5 <= self.seconds <= PRETRAINED_SECONDS:
            raise RequestError("the window is out of range", expected="0.5 to 30 s", found=f"{self.seconds} s")
        if abs(self.seconds * SAMPLE_RATE / STATE_SAMPLES - self.frames) > 1e-6:
            raise RequestError(
                "the window does not hold a whole number of encoder states",
                expected="a multiple of 0.02 s",
                found=f"{self.seconds} s",
            )

    @property
    def samples(self) -> int:
        """Audio samples in the window (480,000 for 30 s)."""
        return self.frames * STATE_SAMPLES

    @property
    def mel_frames(self) -> int:
        """Log-mel frames of 10 ms in the window (3000 for 30 s)."""
        return self.frames * CONV_STRIDE

    @property
    def frames(self) -> int:
        """Encoder states of 20 ms in the window (1500 for 30 s)."""
        return round(self.seconds * SAMPLE_RATE / STATE_SAMPLES)

    def speech_frames(self, seconds: float, frames: int | None = None) -> int:
        """How many of the window's states hear a clip of `seconds`: at least 1, at most all.

        Args:
            seconds: length of the clip.
            frames: states of the window (count), where they are not those of 20 ms.
        """
        frames = frames or self.frames
        heard = seconds * SAMPLE_RATE / STATE_SAMPLES * (frames / self.frames)
        return max(1, min(frames, math.ceil(heard - 1e-6)))

    @classmethod
    def holding(cls, lengths: Sequence[float], share: float = 0.99) -> Window:
        """The shortest window of whole seconds, up to 30, that is as long as this share of the clips.

        Args:
            lengths: of the clips, in seconds; NaN where it is not known. With none, the window is of 30 s.
            share: of the clips (0 to 1).
        """
        known = sorted(length for length in lengths if not math.isnan(length))
        if not known:
            return cls()
        needed = known[math.ceil(share * len(known) - 1e-9) - 1]
        return cls(min(PRETRAINED_SECONDS, max(1.0, math.ceil(needed - 1e-6))))

    @classmethod
    def of_frames(cls, frames: int) -> Window:
        """The window of an encoder with `frames` positions (`max_source_positions`)."""
        return cls(frames * STATE_SAMPLES / SAMPLE_RATE)
