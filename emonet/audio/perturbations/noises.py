"""Noises, seeded: white, pink, and a babble of synthetic talkers; and the impulse response of a synthetic room."""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Float64
from scipy.signal import lfilter

from emonet.windows import SAMPLE_RATE

TALKERS: Final = 8
LOWEST: Final = 20.0  # Hz, below which pink noise does not rise any more
_FORMANTS: Final = (
    (300.0, 800.0, 90.0),
    (900.0, 2_300.0, 120.0),
    (2_300.0, 3_300.0, 180.0),
)  # lowest, highest, bandwidth (Hz)
_SYLLABLE: Final = (0.12, 0.30)  # seconds: three to eight in a second
_UNVOICED: Final = 0.25  # share of syllables that are hissed
_PAUSES: Final = 0.15  # share that nobody speaks


def white(samples: int, rng: np.random.Generator) -> Float64[np.ndarray, " samples"]:
    """Normal noise: the same power in each Hz."""
    return rng.standard_normal(samples)


def pink(samples: int, rng: np.random.Generator) -> Float64[np.ndarray, " samples"]:
    """Noise of the same power in each octave from 20 Hz on (3 dB less per octave)."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    hertz = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    noise: Float64[np.ndarray, " samples"] = np.fft.irfft(spectrum / np.sqrt(np.maximum(hertz, LOWEST)), samples)
    return noise


def babble(samples: int, rng: np.random.Generator) -> Float64[np.ndarray, " samples"]:
    """Eight synthetic talkers at once: syllables with pitch, formants and hisses, without words.

    No recording is used: it would have a licence, and feelings of its own.
    """
    noise = np.zeros(samples)
    for _ in range(TALKERS):
        noise += rng.uniform(0.5, 1.0) * _talker(samples, rng)
    return noise


def impulse_response(rt60: float, rng: np.random.Generator) -> Float64[np.ndarray, " taps"]:
    """Of a room: the direct sound, and noise that decays exponentially and has as much energy.

    Args:
        rt60: time in which the reverberation falls by 60 dB, in seconds.
        rng: of the noise.
    """
    taps = int(1.2 * rt60 * SAMPLE_RATE)  # down to -72 dB
    tail = rng.standard_normal(taps) * 10 ** (-3 * np.arange(taps) / (rt60 * SAMPLE_RATE))
    tail /= np.sqrt(np.square(tail).sum())
    tail[0] += 1.0
    return tail


def _talker(samples: int, rng: np.random.Generator) -> Float64[np.ndarray, " samples"]:
    voice, pitch = np.zeros(samples), rng.uniform(90, 240)
    at = -int(rng.uniform(0, _SYLLABLE[1]) * SAMPLE_RATE)  # everybody starts at another moment
    while at < samples:
        length = int(rng.uniform(*_SYLLABLE) * SAMPLE_RATE)
        syllable = _syllable(length, pitch, rng)
        first, last = max(at, 0), min(at + length, samples)
        if rng.random() >= _PAUSES and last > first:
            voice[first:last] += syllable[first - at : last - at]
        at += length
    return voice


def _syllable(length: int, pitch: float, rng: np.random.Generator) -> Float64[np.ndarray, " samples"]:
    """Pulses at a gliding pitch, or noise, through resonances; of power 1 at the middle."""
    if rng.random() < _UNVOICED:
        sound = _resonance(rng.standard_normal(length), rng.uniform(2_500, 6_000), 1_500.0)
        scale = 0.3
    else:
        glide = pitch * 2 ** (rng.uniform(-0.3, 0.3) + rng.uniform(-0.2, 0.2) * np.linspace(0, 1, length))
        cycles = np.cumsum(glide) / SAMPLE_RATE
        sound = np.diff(np.floor(cycles), prepend=0.0)
        sound = lfilter([1.0, -1.0], [1.0, -1.94, 0.9409], sound)  # glottis and lips: 6 dB less per octave above 80 Hz
        for low, high, width in _FORMANTS:
            sound = _resonance(sound, rng.uniform(low, high), width)
        scale = 1.0
    sound *= np.hanning(length)
    scaled: Float64[np.ndarray, " samples"] = scale * sound / (np.sqrt(np.square(sound).mean()) + 1e-12)
    return scaled


def _resonance(sound: Float64[np.ndarray, " samples"], hertz: float, width: float) -> Float64[np.ndarray, " samples"]:
    """Two poles, with a gain of 1 at 0 Hz (Klatt 1980)."""
    radius = np.exp(-np.pi * width / SAMPLE_RATE)
    b, c = 2 * radius * np.cos(2 * np.pi * hertz / SAMPLE_RATE), -(radius**2)
    filtered: Float64[np.ndarray, " samples"] = lfilter([1 - b - c], [1, -b, -c], sound)
    return filtered
