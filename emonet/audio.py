"""Audio in: any recording that libsndfile reads becomes 16 kHz mono, or one readable reason why it cannot.

Nothing here believes a header: samples are read in blocks until the window is full or the file ends.
"""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from jaxtyping import Float32

from emonet.errors import AudioError
from emonet.windows import PRETRAINED_SECONDS, SAMPLE_RATE

SHORTEST = 0.1  # seconds; below this there is no voice to judge
RATES = (1_000, 768_000)  # Hz; outside, the header is damaged or the recording is not speech
BLOCK = 1 << 18  # samples over all channels (1 MiB of float32) per read
MARGIN = 0.05  # seconds read beyond the window, so that the resampling filter hears what follows
TOLERANCE = 0.01  # share of the declared length that may be missing: some encoders round
_STREAMED = 0x7FFF_F000  # bytes; programs that write to a pipe leave a data size from here up in the header
_LENGTHS = re.compile(r"^ *(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
_PREFIX = re.compile(r"^Error (?:: |in \S+ file\. )?|\.$")
_CONVERT = "ffmpeg -i IN -ar 16000 -ac 1 OUT.wav"


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What the header of a recording says.

    Args:
        seconds: its length in seconds; NaN where the header leaves it open (a stream).
        sample_rate: in Hz.
        channels: count.
    """

    seconds: float
    sample_rate: int
    channels: int


def probe(audio: Path | bytes) -> AudioInfo:
    """Read the header of `audio`, a file or the encoded bytes of one.

    Raises:
        AudioError: if it is missing, empty, unreadable, visibly cut short, or shorter than 0.1 s.
    """
    with _opened(audio) as sound:
        frames = _declared(sound)
        seconds = float("nan") if frames is None else frames / sound.samplerate
        _check_length(seconds, audio)
        return AudioInfo(seconds, sound.samplerate, sound.channels)


def decode(
    audio: Path | bytes,
    *,
    start: float | None = None,
    end: float | None = None,
    seconds: float = PRETRAINED_SECONDS,
) -> Float32[np.ndarray, " samples"]:
    """Decode part of `audio` to mono at 16 kHz; channels are averaged.

    Args:
        audio: path of a file that libsndfile reads, or the encoded bytes of one.
        start: where to begin, in seconds; None is the beginning.
        end: where to stop, in seconds; None is the end.
        seconds: the most to return, in seconds.

    Returns:
        Samples of shape (samples,), full scale at -1 and 1 (float files may exceed it).

    Raises:
        AudioError: if the audio is missing, empty, unreadable, cut short, not finite, digitally silent or
            shorter than 0.1 s, or `start` and `end` do not lie in it.
    """
    begin = start or 0.0
    wanted = seconds if end is None else min(seconds, end - begin)
    if begin < 0 or not wanted > 0:
        raise AudioError("start and end of the clip are not in order", where=_where(audio), found=f"{start} to {end} s")
    with _opened(audio) as sound:
        mono = _read(sound, begin, wanted, audio)
        rate = sound.samplerate
    _check_samples(mono, audio)
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    mono = mono[: round(wanted * SAMPLE_RATE)]
    _check_length(len(mono) / SAMPLE_RATE, audio)
    return np.ascontiguousarray(mono, np.float32)


def _where(audio: Path | bytes) -> str:
    return f"{len(audio):,} bytes in memory" if isinstance(audio, bytes) else str(audio)


class _Stream(soundfile.SoundFile):  # type: ignore[misc]
    """Reads forwards only: `SoundFile.read` seeks after a block, which fails in a FLAC of unknown length."""

    def seekable(self) -> bool:
        return False


@contextmanager
def _opened(audio: Path | bytes) -> Iterator[Any]:
    """An open sound file, or an `AudioError` for whatever goes wrong with it, also while it is read."""
    where = _where(audio)
    try:
        size = len(audio) if isinstance(audio, bytes) else _size(audio)
        if size == 0:
            raise AudioError("0 bytes", where=where)
        with _Stream(io.BytesIO(audio) if isinstance(audio, bytes) else _native(audio)) as sound:
            _check_header(sound, where)
            yield sound
    except OSError as error:
        raise AudioError(f"cannot be opened: {error.strerror or error}", where=where) from error
    except (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError) as error:
        # soundfile raises TypeError for `.raw`, which has no header to say what is in it.
        raise AudioError(f"not readable: {_reason(error)}", where=where, hint=_CONVERT) from error


def _native(path: Path) -> str | bytes:
    """A path as soundfile takes it: text that holds bytes which are not UTF-8 it would refuse to encode."""
    return str(path) if os.name == "nt" else os.fsencode(path)


def _size(path: Path) -> int:
    """Bytes of a regular file; anything else (a folder, a pipe that would block) raises."""
    if not path.exists():
        raise AudioError("no such file", where=path)
    if not path.is_file():
        raise AudioError("not a file", where=path)
    with path.open("rb"):  # says "permission denied" where libsndfile only says "system error"
        return path.stat().st_size


def _reason(error: Exception) -> str:
    text = getattr(error, "error_string", "") or str(error)
    text = _PREFIX.sub("", " ".join(text.split()))
    if not text or "flac decoder" in text:
        return "damaged or truncated"
    return text[0].lower() + text[1:] if text[1:2].islower() else text


def _check_header(sound: Any, where: str) -> None:
    if not RATES[0] <= sound.samplerate <= RATES[1]:
        expected = f"{RATES[0]:,} to {RATES[1]:,} Hz"
        raise AudioError("sample rate out of range", where=where, expected=expected, found=f"{sound.samplerate:,} Hz")
    if sound.frames == 0:
        raise AudioError("no samples", where=where)
    for declared, found in [(int(a), int(b)) for a, b in _LENGTHS.findall(sound.extra_info)]:
        if declared < _STREAMED and found < (1 - TOLERANCE) * declared:
            raise _truncated(found / declared, where)


def _truncated(share: float, where: str) -> AudioError:
    return AudioError(
        f"truncated: {share:.0%} of what the header announces is there",
        where=where,
        hint="copy or download the file again",
    )


def _declared(sound: Any) -> int | None:
    """Frames that the header declares; None where it leaves them open."""
    return sound.frames if 0 < sound.frames < 1 << 62 else None


def _read(sound: Any, begin: float, wanted: float, audio: Path | bytes) -> Float32[np.ndarray, " frames"]:
    """Mono frames at the file's own rate: `wanted` seconds from `begin`, and a little more to filter with."""
    declared, where = _declared(sound), _where(audio)
    first = round(begin * sound.samplerate)
    if first and declared is not None and first >= declared:
        raise AudioError(
            "the clip starts after the end of the audio",
            where=where,
            expected=f"a start before {declared / sound.samplerate:.2f} s",
            found=f"{begin:.2f} s",
        )
    _skip(sound, first)
    missing = math.ceil((wanted + MARGIN) * sound.samplerate)
    available = missing if declared is None else min(missing, declared - first)
    mono = np.concatenate([np.zeros(0, np.float32), *_blocks(sound, missing)])
    if declared is not None and len(mono) < (1 - TOLERANCE) * available and _trusts_length(sound, audio):
        raise _truncated(len(mono) / available, where)
    return mono


def _blocks(sound: Any, frames: int) -> Iterator[Float32[np.ndarray, " frames"]]:
    """The next `frames` frames, or fewer where the file ends, in mono blocks of bounded size."""
    while frames > 0:
        block = sound.read(min(frames, max(1, BLOCK // sound.channels)), dtype="float32", always_2d=True)
        if not len(block):
            return
        frames -= len(block)
        yield block.mean(axis=1)


def _skip(sound: Any, frames: int) -> None:
    if sound.format == "MP3":
        # A seek loses what the decoder keeps from earlier frames: up to 0.3 s of wrong samples, or an error.
        for _ in _blocks(sound, frames):
            pass
    elif frames:
        sound.seek(frames)


def _trusts_length(sound: Any, audio: Path | bytes) -> bool:
    """Whether the declared length is exact: an MP3 without a Xing or Info header has only an estimate."""
    if sound.format != "MP3":
        return True
    if isinstance(audio, bytes):
        head = audio[:8192]
    else:
        with audio.open("rb") as file:
            head = file.read(8192)
    return b"Xing" in head or b"Info" in head


def _check_samples(mono: Float32[np.ndarray, " frames"], audio: Path | bytes) -> None:
    if not len(mono):
        raise AudioError("no samples", where=_where(audio))
    low, high = float(mono.min()), float(mono.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise AudioError("contains NaN or infinite samples", where=_where(audio))
    if low == high:
        raise AudioError("digital silence: every sample is the same", where=_where(audio))


def _check_length(seconds: float, audio: Path | bytes) -> None:
    if seconds < SHORTEST:
        raise AudioError(f"only {seconds:.4f} s of audio", where=_where(audio), expected=f"at least {SHORTEST} s")
