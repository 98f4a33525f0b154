"""Levels of speech: which samples are active, how loud those are, and a signal-to-noise ratio (SNR), estimated."""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Bool, Float32, Float64

from emonet.windows import SAMPLE_RATE

FRAME: Final = SAMPLE_RATE // 50  # samples: 20 ms
PAUSE: Final = 15.9  # dB below the active level, from where on it is a pause (the margin of ITU-T P.56)
QUIETEST: Final = 10  # per cent of the frames, taken as the noise of a recording
ABOVE_NOISE: Final = 2.0  # times the noise's power (3 dB), from where on a frame has a voice in it
ROUNDING: Final = 2.0**-30 / 12  # power of what rounding to 16 bits adds, the least noise of a recording


def active(samples: Float32[np.ndarray, " samples"]) -> Bool[np.ndarray, " samples"]:
    """Which samples are speech, not pauses: frames of 20 ms at most 15.9 dB below the mean power of all such frames.

    Args:
        samples: 16 kHz mono; of digital silence all are active.
    """
    powers = _powers(samples)
    level = float(powers.mean())
    while (higher := float(powers[powers >= level * 10 ** (-PAUSE / 10)].mean())) > level:
        level = higher
    chosen: Bool[np.ndarray, " samples"] = np.repeat(powers >= level * 10 ** (-PAUSE / 10), FRAME)[: len(samples)]
    return chosen


def speech_power(samples: Float32[np.ndarray, " samples"]) -> float:
    """Mean square of the active samples; full scale is 1."""
    return float(np.square(samples[active(samples)], dtype=np.float64).mean())


def speech_level(samples: Float32[np.ndarray, " samples"]) -> float:
    """Level of the active samples in dB of full scale (0 is the power of a square wave at full scale)."""
    return 10 * float(np.log10(max(speech_power(samples), ROUNDING)))


def estimated_snr(samples: Float32[np.ndarray, " samples"]) -> float:
    """Signal-to-noise ratio of a recording in dB, judged by its quietest moments.

    The quietest tenth of the frames is taken as noise, so that a recording without pauses seems noisier than it is.

    Args:
        samples: 16 kHz mono.

    Returns:
        At least -20 dB, below which nothing can be told; the noise is at least that of 16 bits.
    """
    powers = _powers(samples)
    noise = max(float(np.percentile(powers, QUIETEST)), ROUNDING)
    voiced = powers[powers > ABOVE_NOISE * noise]
    speech = float(voiced.mean()) - noise if len(voiced) else 0.0
    return max(-20.0, 10 * float(np.log10(max(speech, 1e-30) / noise)))


def _powers(samples: Float32[np.ndarray, " samples"]) -> Float64[np.ndarray, " frames"]:
    """Mean square of each frame; the last one may be shorter."""
    starts = np.arange(0, len(samples), FRAME)
    sums = np.add.reduceat(np.square(samples, dtype=np.float64), starts)
    powers: Float64[np.ndarray, " frames"] = sums / np.minimum(FRAME, len(samples) - starts)
    return powers
