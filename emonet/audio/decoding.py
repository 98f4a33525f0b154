"""Decode audio: any recording that libsndfile reads becomes 16 kHz mono, or one readable reason why it cannot.

Nothing here believes a header: samples are read in blocks until the window is full or the file ends. What decodes well
and may still be the wrong sound comes with notices.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from jaxtyping import Float32

from emonet.audio.mixing import Mix, Mixer
from emonet.audio.notices import Notice, sound_notices
from emonet.audio.opening import TOLERANCE, opened, truncated, where_of
from emonet.audio.scale import to_full_scale
from emonet.errors import AudioError
from emonet.windows import PRETRAINED_SECONDS, SAMPLE_RATE

SHORTEST = 0.1  # seconds; below this there is no voice to judge
BLOCK = 1 << 18  # samples over all channels (1 MiB of float32) per read
MARGIN = 0.05  # seconds read beyond the window, so that the resampling filter hears what follows
UNHEARD = 0.05  # seconds beyond the window that are not worth a notice


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a recording is, without its sound.

    Args:
        seconds: its length in seconds; NaN where only reading to the end would tell.
        sample_rate: in Hz.
        channels: count.
    """

    seconds: float
    sample_rate: int
    channels: int


@dataclass(frozen=True, eq=False)
class Decoded:
    """The sound of a clip, as far as the window reaches.

    Args:
        samples: 16 kHz mono, full scale at -1 and 1 (float files may exceed it).
        total: length of the clip before the window cut it, in seconds; NaN where it is not known.
        content: the same for two clips of the same samples, whatever their files are called and in whichever lossless
            format (SHA-256 of the mono signal before resampling, 32 hex characters).
        notices: what whoever reads the scores should know.
    """

    samples: Float32[np.ndarray, " samples"]
    total: float
    content: str
    notices: tuple[Notice, ...] = ()

    @property
    def seconds(self) -> float:
        """How much of the clip is there, in seconds."""
        return len(self.samples) / SAMPLE_RATE


def probe(audio: Path | bytes) -> AudioInfo:
    """How long `audio` is, a file or the encoded bytes of one, by its header where that is right.

    Raises:
        AudioError: if it is missing, empty, unreadable, visibly cut short, or shorter than 0.1 s.
    """
    with opened(audio) as source:
        rate = source.sound.samplerate
        seconds = float("nan") if source.frames is None else source.frames / rate
        _check_length(seconds, audio)
        return AudioInfo(seconds, rate, source.sound.channels)


def decode(
    audio: Path | bytes,
    *,
    start: float | None = None,
    end: float | None = None,
    seconds: float = PRETRAINED_SECONDS,
) -> Decoded:
    """Decode part of `audio` to mono at 16 kHz; channels are averaged where they do not cancel each other.

    Args:
        audio: path of a file that libsndfile reads, or the encoded bytes of one.
        start: where to begin, in seconds; None is the beginning.
        end: where to stop, in seconds; None is the end.
        seconds: the most to return, in seconds.

    Raises:
        AudioError: if the audio is missing, empty, unreadable, cut short, not finite, of no known scale, digitally
            silent or shorter than 0.1 s, or `start` and `end` do not lie in it.
    """
    begin = start or 0.0
    wanted = seconds if end is None else min(seconds, end - begin)
    if begin < 0 or not wanted > 0:
        what = "start and end of the clip are not in order"
        raise AudioError(what, where=where_of(audio), found=f"{start} to {end} s")
    heard = _read(audio, begin, wanted, Mix())
    if heard.mix.channels is not None:
        heard = _read(audio, begin, wanted, heard.mix)
    _check_samples(heard, audio)
    mono, scale = to_full_scale(heard.mono, where_of(audio))
    samples = mono if heard.rate == SAMPLE_RATE else soxr.resample(mono, heard.rate, SAMPLE_RATE)
    samples = np.ascontiguousarray(samples[: round(wanted * SAMPLE_RATE)], np.float32)
    _check_length(len(samples) / SAMPLE_RATE, audio)
    total = min(math.inf if heard.total is None else heard.total, math.inf if end is None else end) - begin
    unheard = _unheard(len(samples) / SAMPLE_RATE, total)
    notices = [*heard.notices, heard.mix.notice, scale, unheard, *sound_notices(samples)]
    return Decoded(
        samples,
        total=total if total < math.inf else math.nan,
        content=hashlib.sha256(mono[: round(wanted * heard.rate)].data).hexdigest()[:32],
        notices=tuple(notice for notice in notices if notice is not None),
    )


@dataclass(frozen=True, slots=True)
class _Heard:
    mono: Float32[np.ndarray, " frames"]
    rate: int
    mix: Mix
    total: float | None  # seconds of the whole recording
    notices: tuple[Notice, ...]


def _read(audio: Path | bytes, begin: float, wanted: float, mix: Mix) -> _Heard:
    """Mono frames at the file's own rate: `wanted` seconds from `begin`, and a little more to filter with."""
    mixer, where = Mixer(mix.channels), where_of(audio)
    with opened(audio) as source:
        rate = source.sound.samplerate
        first = round(begin * rate)
        if first and source.frames is not None and first >= source.frames:
            raise AudioError(
                "the clip starts after the end of the audio",
                where=where,
                expected=f"a start before {source.frames / rate:.2f} s",
                found=f"{begin:.2f} s",
            )
        _skip(source.sound, first)
        wanted_frames = math.ceil((wanted + MARGIN) * rate)
        there = wanted_frames if source.frames is None else min(wanted_frames, source.frames - first)
        blocks = _blocks(source.sound, there)
        mono = np.concatenate([np.zeros(0, np.float32), *(mixer.mono(block) for block in blocks)])
        if source.frames is not None and len(mono) < (1 - TOLERANCE) * there:
            raise truncated(len(mono) / there, where)
        frames = first + len(mono) if len(mono) < there else source.frames
        return _Heard(
            mono,
            rate,
            mixer.verdict() if mix.channels is None else mix,
            None if frames is None else frames / rate,
            source.notices,
        )


def _blocks(sound: Any, frames: int) -> Iterator[Float32[np.ndarray, "frames channels"]]:
    """The next `frames` frames, or fewer where the file ends, in blocks of bounded size."""
    while frames > 0:
        block = sound.read(min(frames, max(1, BLOCK // sound.channels)), dtype="float32", always_2d=True)
        if not len(block):
            return
        frames -= len(block)
        yield block


def _skip(sound: Any, frames: int) -> None:
    if sound.format == "MP3":
        # A seek loses what the decoder keeps from earlier frames: up to 0.3 s of wrong samples, or an error.
        for _ in _blocks(sound, frames):
            pass
    elif frames:
        sound.seek(frames)


def _unheard(heard: float, total: float) -> Notice | None:
    """What the window leaves out."""
    if total == math.inf:
        return Notice("window", f"only the first {heard:.1f} s are heard; how long the recording is, it does not say")
    if total - heard <= UNHEARD:
        return None
    return Notice("window", f"only the first {heard:.1f} of {total:.1f} s are heard")


def _check_samples(heard: _Heard, audio: Path | bytes) -> None:
    if not len(heard.mono):
        raise AudioError("no samples", where=where_of(audio))
    low, high = float(heard.mono.min()), float(heard.mono.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise AudioError("contains NaN or infinite samples", where=where_of(audio))
    if low == high:
        seconds = len(heard.mono) / heard.rate
        part = f" of the {seconds:.1f} s that are heard" if heard.total is None or heard.total > 1.1 * seconds else ""
        raise AudioError(f"digital silence: every sample{part} is the same", where=where_of(audio))


def too_short(seconds: float) -> str:
    """The reason why so few seconds are refused."""
    return f"only {1000 * seconds:.3g} ms of audio"


def _check_length(seconds: float, audio: Path | bytes) -> None:
    if seconds < SHORTEST:
        raise AudioError(too_short(seconds), where=where_of(audio), expected=f"at least {1000 * SHORTEST:g} ms")
