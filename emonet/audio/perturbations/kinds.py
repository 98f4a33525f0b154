"""Perturbations: what a microphone, a room, a line or a player does to speech, by name and level, seeded.

Each is a `Perturbation` such as `white_noise:10`. The random part depends on seed and name, not on the level: a clip
hears the same noise at 10 dB as at 0 dB, so that curves over levels show the level alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import soxr
from jaxtyping import Float, Float32
from scipy.signal import butter, fftconvolve, sosfiltfilt

from emonet.audio.perturbations import noises
from emonet.audio.perturbations.codecs import CODECS, has_codec, transcoded
from emonet.audio.speech_levels import active, speech_power
from emonet.errors import RequestError
from emonet.runtime import generator
from emonet.windows import SAMPLE_RATE

Samples = Float32[np.ndarray, " samples"]
_Change = Callable[[Samples, float, np.random.Generator], Float[np.ndarray, " changed"]]

TELEPHONE_BAND: Final = (300.0, 3_400.0)  # Hz
_STRETCH: Final = (512, 64)  # samples: window and hop of the phase vocoder, 32 and 4 ms; longer ones smear more
PERTURBATION_VERSION: Final = 1
"""Counts up when a perturbation of the same name and level begins to sound otherwise."""


@dataclass(frozen=True, slots=True)
class PerturbationKind:
    """What can be done to speech, at several levels.

    Args:
        label: what tables call it.
        unit: of the level; empty for a factor or a share.
        levels: from mild to harsh, on both sides of the neutral one where it has two.
        neutral: the level that would change nothing; infinite where none is large enough.
        lowest: level.
        highest: level.
        about: what it is, in a sentence.
        change: does it.
    """

    label: str
    unit: str
    levels: tuple[float, ...]
    neutral: float
    lowest: float
    highest: float
    about: str
    change: _Change


@dataclass(frozen=True, slots=True)
class Perturbation:
    """One perturbation at one level.

    Args:
        name: one of `PERTURBATIONS`.
        level: in its unit.

    Raises:
        RequestError: if there is none of that name, the level is out of its range, or libsndfile lacks its codec.
    """

    name: str
    level: float

    def __post_init__(self) -> None:
        if self.name not in PERTURBATIONS:
            raise RequestError(
                "no such perturbation", expected=", ".join(PERTURBATIONS), found=self.name, hint="NAME, or NAME:LEVEL"
            )
        kind = self.kind
        if not kind.lowest <= self.level <= kind.highest:
            raise RequestError(
                f"the level of {self.name} is out of range",
                expected=f"{kind.lowest:g} to {kind.highest:g} {kind.unit}".strip(),
                found=f"{self.level:g}",
            )
        if self.name in CODECS and not has_codec(self.name):
            raise RequestError(f"the installed libsndfile has no {kind.label}", hint="pip install -U soundfile")

    @property
    def kind(self) -> PerturbationKind:
        """What it is."""
        return PERTURBATIONS[self.name]

    @property
    def shown(self) -> str:
        """Its level as tables have it: `10 dB`."""
        signed = "+" if self.kind.neutral == 0 and self.kind.lowest < 0 else ""
        return f"{self.level:{signed}g} {self.kind.unit}".strip()

    def __str__(self) -> str:
        return f"{self.name}:{self.level:g}"


def open_perturbations(wanted: Sequence[str] = ()) -> tuple[Perturbation, ...]:
    """Those that are named, in the order of `PERTURBATIONS` and of their levels.

    Args:
        wanted: each `NAME`, with all its usual levels, or `NAME:LEVEL`; none: all that libsndfile has the codecs for.

    Raises:
        RequestError: if there is no such perturbation or level.
    """
    found: list[Perturbation] = []
    for text in wanted or [name for name in PERTURBATIONS if name not in CODECS or has_codec(name)]:
        name, _, level = text.strip().partition(":")
        if level:
            try:
                found.append(Perturbation(name, float(level)))
            except ValueError:
                raise RequestError("the level of a perturbation is no number", where=text, found=level) from None
        else:
            usual = PERTURBATIONS[name].levels if name in PERTURBATIONS else (math.nan,)
            found += [Perturbation(name, one) for one in usual]
    names = list(PERTURBATIONS)
    return tuple(sorted(dict.fromkeys(found), key=lambda one: (names.index(one.name), _harshness(one))))


def perturb(samples: Samples, perturbation: Perturbation, *, seed: int) -> Float32[np.ndarray, " changed"]:
    """Speech with the perturbation; a new array, of another length where speed, tempo or silence change it.

    Args:
        samples: 16 kHz mono, full scale at 1.
        perturbation: which, and how much of it.
        seed: of its random part, which is the same at each level.
    """
    rng = generator("perturbation", seed, perturbation.name)
    changed = perturbation.kind.change(samples, perturbation.level, rng)
    return np.ascontiguousarray(changed, np.float32)


def _harshness(one: Perturbation) -> float:
    """Order of a kind's levels: away from the neutral one; by size where that lies among them."""
    neutral = one.kind.neutral
    if one.kind.lowest < neutral < one.kind.highest:
        return one.level
    return abs(neutral - one.level) if math.isfinite(neutral) else -one.level


def _with_noise(make: Callable[[int, np.random.Generator], np.ndarray]) -> _Change:
    """Noise whose power during the speech is so many dB below that of the speech."""

    def change(samples: Samples, level: float, rng: np.random.Generator) -> np.ndarray:
        noise, speech = make(len(samples), rng), active(samples)
        wanted = np.square(samples[speech], dtype=np.float64).mean() / 10 ** (level / 10)
        mixed: np.ndarray = samples + noise * np.sqrt(wanted / (np.square(noise[speech]).mean() + 1e-30))
        return mixed

    return change


def _reverberated(samples: Samples, level: float, rng: np.random.Generator) -> np.ndarray:
    wet = fftconvolve(samples, noises.impulse_response(level, rng))[: len(samples)]
    quieter = np.sqrt(speech_power(samples) / (speech_power(wet.astype(np.float32)) + 1e-30))
    heard: np.ndarray = wet * quieter
    return heard


def _low_passed(samples: Samples, level: float, _: np.random.Generator) -> np.ndarray:
    filtered: np.ndarray = sosfiltfilt(butter(8, level, "lowpass", fs=SAMPLE_RATE, output="sos"), samples)
    return filtered


def _telephoned(samples: Samples, level: float, _: np.random.Generator) -> np.ndarray:
    narrow = soxr.resample(soxr.resample(samples, SAMPLE_RATE, level), level, SAMPLE_RATE)
    narrow = np.concatenate([narrow, np.zeros(len(samples), np.float32)])[: len(samples)]
    filtered: np.ndarray = sosfiltfilt(butter(4, TELEPHONE_BAND, "bandpass", fs=SAMPLE_RATE, output="sos"), narrow)
    return filtered


def _sent_as(codec: str) -> _Change:
    return lambda samples, level, _: transcoded(samples, codec, level)


def _louder(samples: Samples, level: float, _: np.random.Generator) -> np.ndarray:
    changed: np.ndarray = samples * np.float32(10 ** (level / 20))
    return changed


def _clipped(samples: Samples, level: float, _: np.random.Generator) -> np.ndarray:
    most = np.quantile(np.abs(samples), 1 - level)
    clipped: np.ndarray = np.clip(samples, -most, most)
    return clipped


def _faster(samples: Samples, level: float, _: np.random.Generator) -> np.ndarray:
    resampled: np.ndarray = soxr.resample(samples, SAMPLE_RATE * level, SAMPLE_RATE)
    return resampled


def _hurried(samples: Samples, level: float, _: np.random.Generator) -> np.ndarray:
    """Time stretched by a phase vocoder; the pitch stays."""
    import torch
    from torchaudio.functional import phase_vocoder

    points, hop = _STRETCH
    window = torch.hann_window(points)
    spectra = torch.stft(
        torch.from_numpy(np.ascontiguousarray(samples)), points, hop, window=window, return_complex=True
    )
    advance = torch.linspace(0, math.pi * hop, points // 2 + 1)[:, None]
    stretched = phase_vocoder(spectra, level, advance)
    waveform: np.ndarray = torch.istft(
        stretched, points, hop, window=window, length=round(len(samples) / level)
    ).numpy()
    return waveform


def _pitched(samples: Samples, level: float, rng: np.random.Generator) -> np.ndarray:
    """Stretched by the phase vocoder, then played as much faster: the length stays."""
    factor = 2 ** (level / 12)
    higher = _faster(_hurried(samples, 1 / factor, rng), factor, rng)
    return np.concatenate([higher, np.zeros(len(samples), np.float32)])[: len(samples)]


def _padded(samples: Samples, level: float, _: np.random.Generator) -> np.ndarray:
    return np.pad(samples, round(level * SAMPLE_RATE))


_NEVER = math.inf


def _noise(label: str, make: Callable[[int, np.random.Generator], np.ndarray], more: str = "") -> PerturbationKind:
    about = f"{more}Signal-to-noise ratio over the speech."
    return PerturbationKind(label, "dB", (20.0, 10.0, 0.0), _NEVER, -30.0, 100.0, about, _with_noise(make))


PERTURBATIONS: Final[dict[str, PerturbationKind]] = {
    "white_noise": _noise("white noise", noises.white),
    "pink_noise": _noise("pink noise", noises.pink),
    "babble": _noise("babble", noises.babble, "Eight synthetic talkers. "),
    "reverberation": PerturbationKind(
        "reverberation",
        "s",
        (0.3, 0.6, 1.2),
        0.0,
        0.05,
        5.0,
        "RT60; as much reverberant as direct sound.",
        _reverberated,
    ),
    "low_pass": PerturbationKind(
        "low-pass",
        "Hz",
        (4000.0, 2000.0, 1000.0),
        8000.0,
        100.0,
        7900.0,
        "Frequency above which little is left.",
        _low_passed,
    ),
    "telephone": PerturbationKind(
        "telephone band",
        "Hz",
        (8000.0,),
        16_000.0,
        7000.0,
        16_000.0,
        "Sample rate of the line; 300 to 3,400 Hz.",
        _telephoned,
    ),
    "mp3": PerturbationKind(
        "MP3", "kbit/s", (64.0, 32.0, 16.0), _NEVER, 8.0, 160.0, "Constant bit rate.", _sent_as("mp3")
    ),
    "opus": PerturbationKind("Opus", "kbit/s", (24.0, 12.0, 6.0), _NEVER, 6.0, 256.0, "Bit rate.", _sent_as("opus")),
    "gsm": PerturbationKind(
        "GSM 6.10", "kbit/s", (13.0,), _NEVER, 13.0, 13.0, "Bit rate, which is fixed.", _sent_as("gsm")
    ),
    "gain": PerturbationKind("gain", "dB", (-20.0, -10.0, 10.0), 0.0, -60.0, 18.0, "Louder or quieter.", _louder),
    "clipping": PerturbationKind(
        "clipping", "", (0.01, 0.05, 0.2), 0.0, 0.0, 0.9, "Share of samples cut off.", _clipped
    ),
    "speed": PerturbationKind(
        "speed", "", (0.8, 0.9, 1.1, 1.25), 1.0, 0.25, 4.0, "Factor; the pitch changes with it.", _faster
    ),
    "tempo": PerturbationKind("tempo", "", (0.8, 0.9, 1.1, 1.25), 1.0, 0.5, 2.0, "Factor; the pitch stays.", _hurried),
    "pitch": PerturbationKind(
        "pitch", "semitones", (-4.0, -2.0, 2.0, 4.0), 0.0, -12.0, 12.0, "The length stays.", _pitched
    ),
    "silence": PerturbationKind(
        "silence",
        "s",
        (0.5, 1.0, 2.0),
        0.0,
        0.0,
        30.0,
        "Digital silence before the speech, and as much behind it.",
        _padded,
    ),
}
"""What there is, by name."""
