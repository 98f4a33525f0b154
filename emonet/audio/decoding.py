"""Decode audio: any recording that libsndfile or FFmpeg reads becomes 16 kHz mono, or one readable reason why not.

Nothing here believes a header: samples are read in blocks until the window is full or the file ends. What decodes well
and may still be the wrong sound comes with notices.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr
from jaxtyping import Float32

from emonet.audio.inside import held
from emonet.audio.media.sound import FFMPEG
from emonet.audio.mixing import Mix, Mixer
from emonet.audio.notices import Notice, clipping_notice, sound_notices
from emonet.audio.opening import opened
from emonet.audio.scale import to_full_scale
from emonet.audio.source import TOLERANCE, UNSURE, Source, truncated, where_of
from emonet.clips import Audio
from emonet.errors import AudioError
from emonet.windows import PRETRAINED_SECONDS, SAMPLE_RATE

SHORTEST = 0.1  # seconds; below this there is no voice to judge
BLOCK = 1 << 18  # samples over all channels (1 MiB of float32) per read
MARGIN = 0.05  # seconds read beyond the window, so that the resampling filter hears what follows
ALL_SILENT = "digital silence: every sample is the same"
OVERRUN = 0.1  # seconds that a part may end after its audio: times in tables are rounded
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


def probe(audio: Audio) -> AudioInfo:
    """How long `audio` is, by its header where that is right; of a range only what tells that is read.

    Raises:
        AudioError: if it is missing, empty, unreadable, visibly cut short, or shorter than 0.1 s.
        EmonetError: if the store that it is in does not answer.
    """
    with opened(audio) as source:
        rate = source.sound.samplerate
        seconds = math.nan if source.seconds is None else source.seconds
        check_length(seconds, audio)
        return AudioInfo(seconds, rate, source.sound.channels)


def decode(
    audio: Audio,
    *,
    start: float | None = None,
    end: float | None = None,
    seconds: float = PRETRAINED_SECONDS,
    channel: int | None = None,
) -> Decoded:
    """Decode part of `audio` to mono at 16 kHz; channels are averaged where they do not cancel each other.

    Args:
        audio: path of a file that libsndfile or FFmpeg reads, the encoded bytes of one, or where these are.
        start: where to begin, in seconds; None is the beginning.
        end: where to stop, in seconds; None is the end.
        seconds: the most to return, in seconds.
        channel: which one is heard alone, from 0; None for all, mixed.

    Raises:
        AudioError: if the audio is missing, empty, unreadable, cut short, not finite, of no known scale, digitally
            silent or shorter than 0.1 s, or `start` and `end` do not lie in it, or it has no such channel.
        EmonetError: if the store that it is in does not answer.
    """
    begin = start or 0.0
    wanted = seconds if end is None else min(seconds, end - begin)
    if begin < 0 or not wanted > 0:
        what = "start and end of the clip are not in order"
        raise AudioError(what, where=where_of(audio), found=f"{start} to {end} s")
    content, where = held(audio), where_of(audio)
    heard = _read(content, where, begin, wanted, Mix() if channel is None else Mix((channel,)))
    if channel is None and heard.mix.channels is not None:
        heard = _read(content, where, begin, wanted, heard.mix)
    _check_samples(heard, audio)
    mono, scale = to_full_scale(heard.mono, where)
    samples = mono if heard.rate == SAMPLE_RATE else soxr.resample(mono, heard.rate, SAMPLE_RATE)
    samples = np.ascontiguousarray(samples[: round(wanted * SAMPLE_RATE)], np.float32)
    check_length(len(samples) / SAMPLE_RATE, audio)
    total = min(math.inf if heard.total is None else heard.total, math.inf if end is None else end) - begin
    unheard = _unheard(len(samples) / SAMPLE_RATE, total)
    notices = [
        *heard.notices,
        heard.mix.notice,
        scale,
        unheard,
        _beyond(end, heard.total),
        *sound_notices(samples),
        clipping_notice(mono),
    ]
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


def _read(audio: Audio, where: str, begin: float, wanted: float, mix: Mix) -> _Heard:
    """Mono frames at the file's own rate: `wanted` seconds from `begin`, and a little more to filter with."""
    mixer = Mixer(mix.channels)
    with opened(audio, where) as source:
        rate = source.sound.samplerate
        check_channels(mix.channels, source.sound.channels, where)
        first = round(begin * rate)
        skip(source, first, where)
        wanted_frames = math.ceil((wanted + MARGIN) * rate)
        there = wanted_frames if source.frames is None else min(wanted_frames, source.frames - first)
        mono = np.concatenate([np.zeros(0, np.float32), *(mixer.mono(block) for block in blocks(source.sound, there))])
        if len(mono) < there:
            check_whole(source, first, len(mono), float(there), where)
        return _Heard(
            mono,
            rate,
            mixer.verdict() if mix.channels is None else mix,
            (first + len(mono)) / rate if len(mono) < there else source.seconds,
            (*source.notices, *source.late_notices()),
        )


def blocks(sound: Any, frames: int) -> Iterator[Float32[np.ndarray, "frames channels"]]:
    """The next `frames` frames, or fewer where the file ends, in blocks of bounded size."""
    while frames > 0:
        block = sound.read(min(frames, max(1, BLOCK // sound.channels)), dtype="float32", always_2d=True)
        if not len(block):
            return
        frames -= len(block)
        yield block


def skip(source: Source, frames: int, where: str, tick: Callable[[], None] = lambda: None) -> None:
    """Go to a frame.

    Args:
        source: the recording, at its beginning.
        frames: to pass over (count).
        where: how messages name it.
        tick: called now and then where all up to there has to be decoded.

    Raises:
        AudioError: if the recording ends before it.
    """
    if not frames:
        return
    if source.frames is not None and frames >= source.frames:
        raise _starts_late(frames, source.frames, source.sound.samplerate, where)
    if source.sound.format == FFMPEG:
        reached = source.sound.skip(frames, tick)
    elif source.sound.format == "MP3":
        # A seek loses what the decoder keeps from earlier frames: up to 0.3 s of wrong samples, or an error.
        reached = 0
        for block in blocks(source.sound, frames):
            reached += len(block)
            tick()
    else:
        reached = source.sound.seek(frames)
    if source.frames is None and reached < frames:
        raise _starts_late(frames, reached, source.sound.samplerate, where)


def _starts_late(first: int, frames: int, rate: int, where: str) -> AudioError:
    return AudioError(
        "the clip starts after the end of the audio",
        where=where,
        expected=f"a start before {frames / rate:.2f} s",
        found=f"{first / rate:.2f} s",
    )


def check_whole(source: Source, first: int, found: int, there: float, where: str) -> None:
    """Refuse a recording that ends before it should.

    Args:
        source: the recording, read to its end.
        first: frame that reading began at.
        found: frames that were read.
        there: that were wanted, and are there if the recording's length is right.
        where: how messages name it.

    Raises:
        AudioError: if more than 1 % is missing.
    """
    if source.frames is None:
        if source.about is None:
            return
        there = min(there, (source.about - UNSURE) * source.sound.samplerate - first)
    if found < (1 - TOLERANCE) * there:
        raise truncated(found / there, where)


def _unheard(heard: float, total: float) -> Notice | None:
    """What the window leaves out."""
    if total == math.inf:
        return Notice("window", f"only the first {heard:.1f} s are heard; how long the recording is, it does not say")
    if total - heard <= UNHEARD:
        return None
    return Notice("window", f"only the first {heard:.1f} of {total:.1f} s are heard")


def _beyond(end: float | None, total: float | None) -> Notice | None:
    """What a part has less than it says, beyond rounding."""
    if end is None or total is None or end - total <= OVERRUN:
        return None
    return Notice("length", f"the part ends at {end:.2f} s, but the audio has {total:.2f} s")


def check_channels(wanted: Sequence[int] | None, channels: int, where: str) -> None:
    """Refuse channels that a recording of so many does not have.

    Raises:
        AudioError: if it lacks one.
    """
    for channel in wanted or ():
        if not 0 <= channel < channels:
            raise AudioError(
                f"there is no channel {channel}", where=where, expected=f"0 to {channels - 1}", found=channel
            )


def _check_samples(heard: _Heard, audio: Audio) -> None:
    if not len(heard.mono):
        raise AudioError("no samples", where=where_of(audio))
    check_finite(heard.mono, audio)
    if heard.mono.min() == heard.mono.max():
        seconds = len(heard.mono) / heard.rate
        if heard.total is not None and heard.total <= 1.1 * seconds:
            raise AudioError(ALL_SILENT, where=where_of(audio))
        what = f"digital silence: every sample of the {seconds:.1f} s that are heard is the same"
        raise AudioError(what, where=where_of(audio))


def check_finite(samples: Float32[np.ndarray, "..."], audio: Audio) -> None:
    """Refuse a recording with a sample that is no number.

    Raises:
        AudioError: if there is one.
    """
    if not (math.isfinite(samples.min()) and math.isfinite(samples.max())):
        raise AudioError("contains NaN or infinite samples", where=where_of(audio))


def too_short(seconds: float) -> str:
    """The reason why so few seconds are refused."""
    return f"only {1000 * seconds:.3g} ms of audio"


def check_length(seconds: float, audio: Audio) -> None:
    """Refuse what is too short for a voice.

    Raises:
        AudioError: if it is shorter than 0.1 s.
    """
    if seconds < SHORTEST:
        raise AudioError(too_short(seconds), where=where_of(audio), expected=f"at least {1000 * SHORTEST:g} ms")
