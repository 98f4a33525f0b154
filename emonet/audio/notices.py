"""Notices about a recording that decodes well and may still be the wrong sound: faint, noise, an empty band."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Float32, Float64

from emonet.windows import SAMPLE_RATE

NoticeKind = Literal["channels", "scale", "length", "tracks", "damage", "window", "faint", "noise", "band", "clipped"]

FRAME: Final = SAMPLE_RATE // 25  # samples: 40 ms, two periods of the deepest voice
MOST_FRAMES: Final = 500  # looked at, spread over the recording
FAINT: Final = -60.0  # dB of full scale, the loudest frame; RAVDESS, a quiet corpus, has -54 in its faintest clip
QUIET: Final = 20.0  # dB below the loudest frame, where pauses begin
VOICED: Final = 0.5  # autocorrelation; speech has 0.57 and more, 0.53 in as much noise; noise alone at most 0.46
STEADY: Final = 3.0  # dB between quiet and loud frames; 15 and more in speech, below 1 in noise and hum
EMPTY: Final = -70.0  # dB below the strongest part of the spectrum
TOP: Final = 0.98  # of the largest sample, above which a wave is cut off
FLAT: Final = 5e-4  # of the largest sample, by which neighbours that are cut off differ at most
STEPS: Final = 1e-3  # of full scale: 33 steps of 16 bits; fewer repeat themselves anyway
CLIPPED: Final = 1e-4  # share of samples between two such neighbours; none in RAVDESS and nEMO, 4e-4 with 0.3 % cut off
NARROW: Final = 5_000.0  # Hz; what is sampled at 8 or 10 kHz ends below, speech of 16 kHz beyond 7,700
_PITCH: Final = (60, 500)  # Hz
_BAND: Final = (80, 2_500)  # Hz
_POINTS: Final = 2048  # of the Fourier transform: twice the frame and more, so that correlations do not wrap around


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about a recording that whoever reads its scores should know.

    Args:
        kind: the same for all notices of this kind.
        text: one line, e.g. `only the first 3.0 of 90.0 s are heard`.
    """

    kind: NoticeKind
    text: str


def sound_notices(samples: Float32[np.ndarray, " samples"]) -> list[Notice]:
    """What is odd about the sound itself.

    Thresholds leave all clips of RAVDESS and nEMO without a notice.

    Args:
        samples: 16 kHz mono, at least a frame of 40 ms.
    """
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
    frames = frames - frames.mean()
    levels = 10 * np.log10(np.square(frames).mean(axis=1) + 1e-30)
    loudest = float(levels.max())
    if loudest < FAINT:
        return [Notice("faint", f"hardly any sound: the loudest moment is at {loudest:.0f} dB of full scale")]
    notices = []
    spectra = np.abs(np.fft.rfft(_some(frames[levels > loudest - QUIET]) * np.hanning(FRAME), _POINTS)) ** 2
    if _pitch_strength(spectra) < VOICED:
        notices.append(Notice("noise", "no voiced sound was found: noise, or a whisper"))
    elif len(levels) >= SAMPLE_RATE // FRAME and np.subtract(*np.percentile(levels, [95, 10])) < STEADY:
        notices.append(Notice("noise", "a steady sound without the ups and downs of speech: a hum or a tone"))
    highest = _highest(spectra.mean(axis=0))
    if highest < NARROW and not notices:
        notices.append(Notice("band", f"nothing above {highest / 1000:.1f} kHz, as on a telephone"))
    return notices


def clipping_notice(samples: Float32[np.ndarray, " samples"]) -> Notice | None:
    """Whether the tops of waves are cut off, as by a microphone that is set too loud.

    Args:
        samples: mono at the recording's own rate: resampling rounds what was cut, as lossy codecs do.
    """
    largest = float(np.abs(samples).max(initial=0.0))
    at_top = np.abs(samples) > TOP * largest
    alike = at_top[1:] & at_top[:-1] & (np.abs(np.diff(samples)) < FLAT * largest)
    share = float((alike[1:] & alike[:-1]).sum() / max(1, len(samples)))
    if share < CLIPPED or largest < STEPS:
        return None
    return Notice("clipped", f"clipped: the loudest waves are cut off ({100 * at_top.mean():.2g} % of the samples)")


def _some(frames: Float64[np.ndarray, "_ samples"]) -> Float64[np.ndarray, "_ samples"]:
    chosen: np.ndarray = frames[np.linspace(0, len(frames) - 1, min(len(frames), MOST_FRAMES)).astype(int)]
    return chosen


def _pitch_strength(spectra: Float64[np.ndarray, "_ points"]) -> float:
    """The autocorrelation at the pitch, 0 to 1, of the most voiced tenth of the frames (Boersma 1993, eq. 9).

    Heard in the band of the first formants, tilted so that the noise of rooms is white there.
    """
    shortest, longest = SAMPLE_RATE // _PITCH[1], SAMPLE_RATE // _PITCH[0]
    hertz = np.arange(spectra.shape[1]) * SAMPLE_RATE / _POINTS
    weight = np.where((hertz > _BAND[0]) & (hertz < _BAND[1]), hertz, 0.0)
    found = np.fft.irfft(spectra * weight)[:, : longest + 1]
    window = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(FRAME), _POINTS)) ** 2)[: longest + 1]
    correlation = found / (found[:, :1] + 1e-30) / (window / window[0])
    inner, before, after = (correlation[:, shortest + shift : longest + shift] for shift in (0, -1, 1))
    peaks = np.where((inner >= before) & (inner >= after), inner, 0.0).max(axis=1)
    return float(np.percentile(peaks, 90))


def _highest(spectrum: Float64[np.ndarray, " points"]) -> float:
    """The highest frequency with any sound to speak of, in Hz."""
    width = _POINTS // 64  # 250 Hz
    smooth = np.convolve(spectrum, np.full(width, 1 / width), "same")
    present = np.flatnonzero(10 * np.log10(smooth / smooth.max() + 1e-30) > EMPTY)
    return float(present[-1]) * SAMPLE_RATE / _POINTS
