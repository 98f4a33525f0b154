"""Codecs that a recording is sent through: MP3, Opus and GSM 6.10, as libsndfile has them; and WAV for everybody."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
import soundfile
import soxr
from jaxtyping import Float32
from scipy.signal import correlate

from emonet.windows import SAMPLE_RATE

LATEST: Final = SAMPLE_RATE // 5  # samples: encoders delay by less than 0.2 s


@dataclass(frozen=True, slots=True)
class Codec:
    """How libsndfile is asked for a codec.

    Args:
        format: its container.
        subtype: its name there.
        rate: that it is fed with, in Hz.
        slowest: bit rate at libsndfile's compression level 1, in kbit/s.
        fastest: bit rate at its compression level 0; both are the same where there is no choice.
        constant: whether the bit rate is to be constant; encoders that have no such mode must not be asked.
    """

    format: str
    subtype: str
    rate: int
    slowest: float
    fastest: float
    constant: bool = False


CODECS: Final = {
    "mp3": Codec("MP3", "MPEG_LAYER_III", SAMPLE_RATE, 8.0, 160.0, constant=True),
    "opus": Codec("OGG", "OPUS", SAMPLE_RATE, 6.0, 256.0),
    "gsm": Codec("WAV", "GSM610", 8_000, 13.0, 13.0),
}


def has_codec(name: str) -> bool:
    """Whether this machine's libsndfile has a codec; older ones lack MP3."""
    codec = CODECS[name]
    return codec.format in soundfile.available_formats() and codec.subtype in soundfile.available_subtypes(codec.format)


def transcoded(samples: Float32[np.ndarray, " samples"], name: str, kilobits: float) -> Float32[np.ndarray, " samples"]:
    """What is left of a recording after a codec: as long as before, and not later.

    Args:
        samples: 16 kHz mono; what exceeds full scale is cut off, as encoders do.
        name: of the codec.
        kilobits: bit rate in kbit/s.
    """
    codec = CODECS[name]
    sent = np.clip(soxr.resample(samples, SAMPLE_RATE, codec.rate), -1, 1)
    file = BytesIO(encoded(sent, codec, kilobits))
    heard, rate = soundfile.read(file, dtype="float32")
    return _in_time(soxr.resample(heard, rate, SAMPLE_RATE), samples)


def encoded(samples: Float32[np.ndarray, " samples"], codec: Codec, kilobits: float) -> bytes:
    """A file of the codec, at its own sample rate."""
    options: dict[str, object] = {}
    if codec.fastest > codec.slowest:
        # Level 1 itself, the slowest, is refused for MP3.
        options["compression_level"] = min(0.9999, (codec.fastest - kilobits) / (codec.fastest - codec.slowest))
    if codec.constant:
        options["bitrate_mode"] = "CONSTANT"
    file = BytesIO()
    soundfile.write(file, samples, codec.rate, format=codec.format, subtype=codec.subtype, **options)
    return file.getvalue()


def as_wav(samples: Float32[np.ndarray, " samples"]) -> bytes:
    """A WAV file of 16 kHz mono: 16 bits, which everything reads, or float where samples exceed full scale."""
    file = BytesIO()
    subtype = "PCM_16" if float(np.abs(samples).max(initial=0.0)) <= 1 else "FLOAT"
    soundfile.write(file, samples, SAMPLE_RATE, format="WAV", subtype=subtype)
    return file.getvalue()


def _in_time(
    heard: Float32[np.ndarray, " heard"], samples: Float32[np.ndarray, " samples"]
) -> Float32[np.ndarray, " samples"]:
    """Without the encoder's delay, which low bit rates of MP3 have no room to declare, and of the original's length."""
    padded = np.concatenate([heard, np.zeros(LATEST + len(samples), np.float32)])[: LATEST + len(samples)]
    late = int(correlate(padded, samples, "valid", "fft").argmax())
    return np.ascontiguousarray(padded[late : late + len(samples)], np.float32)
