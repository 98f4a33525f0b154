"""Prosody of a point in valence, arousal and dominance: espeak-ng's settings, and what follows them.

With v, a, d the point scaled by intensity (each about -1 to 1). The directions are guided by Banse & Scherer
(1996) and Scherer (2003), "Vocal communication of emotion": arousal raises rate, pitch, loudness and brightness;
dominance lowers pitch and firms the voice; pleasantness widens the melody; weakness pauses and trembles. The
figures are ours.

| what | formula | unit |
| --- | --- | --- |
| rate | 175 * exp(0.30 a + 0.08 d + 0.05 v) | words per minute |
| pitch | 50 + 22 a - 14 d + 8 v | espeak's scale, 0 to 99 |
| range | 50 + 32 v + 16 a | espeak's scale, 0 to 99 |
| word gap | max(0, 4 - 8 a - 6 d) | 10 ms at the normal rate |
| level | -29 + 6 a + 3 d + distance | dB of full scale, RMS |
| brightness | 0.20 a + 0.15 d - 0.05 v | coefficient of a first difference, -0.8 to 0.8 |
| tremor | max(0, 0.12 + 0.20 a - 0.30 d - 0.25 v) | depth of the swelling of loudness, 0 to 0.6 |
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int16

from emonet.targets import Affect

TREMOR_HZ = 5.5  # of the swelling; trembling voices lie between 4 and 7 Hz
TREMOR_WARP = 0.004  # seconds that tremor at full depth moves a sample to and fro: the pitch trembles by 14 %
FULL_SCALE = 32_767  # of a 16-bit sample


@dataclass(frozen=True, slots=True)
class Prosody:
    """How a sentence is spoken; the table above gives units and ranges."""

    rate: int
    pitch: int
    range: int
    word_gap: int
    level: float
    brightness: float
    tremor: float

    @classmethod
    def of(cls, point: Affect, distance: float = 0.0) -> Prosody:
        """The prosody of a point, by the formulas of this module's table.

        Args:
            point: scaled by intensity.
            distance: how much louder or softer the microphone heard it, in dB.
        """
        v, a, d = point
        return cls(
            rate=round(_within(175 * math.exp(0.30 * a + 0.08 * d + 0.05 * v), 110, 280)),
            pitch=round(_within(50 + 22 * a - 14 * d + 8 * v, 0, 99)),
            range=round(_within(50 + 32 * v + 16 * a, 0, 99)),
            word_gap=round(_within(4 - 8 * a - 6 * d, 0, 20)),
            level=round(_within(-29 + 6 * a + 3 * d + distance, -45, -18), 2),
            brightness=round(_within(0.20 * a + 0.15 * d - 0.05 * v, -0.8, 0.8), 3),
            tremor=round(_within(0.12 + 0.20 * a - 0.30 * d - 0.25 * v, 0, 0.6), 3),
        )

    def shape(self, speech: Int16[np.ndarray, " samples"], sample_rate: int) -> Int16[np.ndarray, " samples"]:
        """Apply what espeak-ng has no setting for: tremor, brightness and level, in this order.

        Args:
            speech: samples as espeak-ng gives them.
            sample_rate: in Hz.

        Returns:
            As many samples; peaks beyond full scale are cut.
        """
        samples = speech.astype(np.float64) / FULL_SCALE
        samples = _brighten(_tremble(samples, sample_rate, self.tremor), self.brightness)
        root_mean_square = math.sqrt(float(np.mean(samples**2)))
        gain = 10 ** (self.level / 20) / max(root_mean_square, 1e-6)
        scaled = np.clip(samples * gain, -1, 1) * FULL_SCALE
        return np.rint(scaled).astype(np.int16)


def _within(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _tremble(
    samples: Float64[np.ndarray, " samples"], sample_rate: int, depth: float
) -> Float64[np.ndarray, " samples"]:
    """Loudness swells and, by moving samples to and fro in time, pitch wavers."""
    if depth == 0:
        return samples
    time = np.arange(len(samples)) / sample_rate
    swing = np.sin(2 * np.pi * TREMOR_HZ * time)
    moved: Float64[np.ndarray, " samples"] = np.interp(time + TREMOR_WARP * depth * swing, time, samples)
    moved *= 1 + depth * swing
    return moved


def _brighten(samples: Float64[np.ndarray, " samples"], amount: float) -> Float64[np.ndarray, " samples"]:
    """Tilt the spectrum: y[n] = x[n] - amount * x[n - 1]; above 0 brighter (more effort), below 0 duller."""
    tilted = samples.copy()
    tilted[1:] -= amount * samples[:-1]
    return tilted
