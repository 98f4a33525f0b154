"""Open a recording whatever its header says: one sound file, how long it really is, and reasons in plain words."""

from __future__ import annotations

import errno
import io
import mmap
import os
import re
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import soundfile

from emonet.audio.lengths import Content, Mpeg, flac_samples, is_cut_ogg, mpeg, ogg_links, undeclared
from emonet.audio.notices import Notice
from emonet.errors import AudioError

RATES = (1_000, 768_000)  # Hz; outside, the header is damaged or the recording is not speech
TOLERANCE = 0.01  # share of the declared length that may be missing: some encoders round
_STREAMED = 0x7FFF_F000  # bytes; programs that write to a pipe leave a data size from here up in the header
_LENGTHS = re.compile(r"^ *(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
_PREFIX = re.compile(r"^Error (?:: |in \S+ file\. )?|\.$")
_CONVERT = "ffmpeg -i IN -ar 16000 -ac 1 OUT.wav"
_BROKEN = (
    *(soundfile.LibsndfileError, RuntimeError, TypeError, ValueError),
    *(ArithmeticError, LookupError, struct.error),  # of our own look at the bytes, should they be odder than foreseen
)
_PLAIN: Final = re.compile(r"PCM_\w+|FLOAT|DOUBLE|ULAW|ALAW")  # subtypes that are samples one after the other


@dataclass(frozen=True)
class Source:
    """An open recording.

    Args:
        sound: to read from; reads forwards only.
        frames: that it has, per channel (count); None where only reading to the end would tell.
        notices: what is odd about its header.
    """

    sound: Any
    frames: int | None
    notices: tuple[Notice, ...] = ()


class _Stream(soundfile.SoundFile):  # type: ignore[misc]
    """Reads forwards only: `SoundFile.read` seeks after a block, which fails in a FLAC of unknown length."""

    def seekable(self) -> bool:
        return False


class _Tail(io.RawIOBase):
    """What a recording holds from some byte on, as a file."""

    def __init__(self, content: Content, offset: int) -> None:
        self._content, self._offset, self._at = content, offset, 0

    def seek(self, to: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._content) - self._offset}[whence]
        self._at = base + to
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        first = self._offset + self._at
        found = self._content[first : first + len(buffer)]
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


def where_of(audio: Path | bytes) -> str:
    """How messages name a recording."""
    return f"{len(audio):,} bytes in memory" if isinstance(audio, bytes) else str(audio)


@contextmanager
def opened(audio: Path | bytes) -> Iterator[Source]:
    """Open `audio`; whatever goes wrong with it, also while it is read, is an `AudioError`.

    Raises:
        AudioError: if it is missing, empty, unreadable or cut short.
    """
    where = where_of(audio)
    try:
        with ExitStack() as stack:
            content = stack.enter_context(_content(audio))
            # A name with bytes that are not UTF-8 is refused as text.
            name: Any = io.BytesIO(audio) if isinstance(audio, bytes) else os.fsencode(audio)
            sound = stack.enter_context(_Stream(name))
            _check_header(sound, where)
            yield _source(sound, content, where, stack)
    except OSError as error:
        raise AudioError(f"cannot be opened: {error.strerror or error}", where=where) from error
    except _BROKEN as error:
        # soundfile raises TypeError for `.raw`, which has no header to say what is in it.
        raise AudioError(f"not readable: {_reason(error)}", where=where, hint=_CONVERT) from error


def truncated(share: float, where: str) -> AudioError:
    """Of what the header announces, only this share (0 to 1) is there."""
    return AudioError(
        f"truncated: {share:.0%} of what the header announces is there",
        where=where,
        hint="copy or download the file again",
    )


@contextmanager
def _content(audio: Path | bytes) -> Iterator[Content]:
    """The bytes of a regular file; anything else (a folder, a pipe that would block) raises."""
    if isinstance(audio, bytes):
        if not audio:
            raise AudioError("0 bytes", where=where_of(audio))
        yield audio
        return
    if not audio.exists():
        raise AudioError("no such file", where=audio)
    if not audio.is_file():
        raise AudioError("not a file", where=audio)
    with audio.open("rb") as file:  # says "permission denied" where libsndfile only says "system error"
        if os.fstat(file.fileno()).st_size == 0:
            raise AudioError("0 bytes", where=audio)
        try:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            if error.errno not in (errno.ENODEV, errno.EINVAL):
                raise
            yield file.read()  # some file systems cannot be mapped
            return
        with content:
            yield content


def _source(sound: Any, content: Content, where: str, stack: ExitStack) -> Source:
    """The recording as it is, opened in another way where its header is wrong."""
    if sound.format == "MP3":
        return _mpeg_source(sound, content, where, stack)
    if sound.format == "FLAC":
        return _flac_source(sound, content, where, stack)
    raw = undeclared(content) if _PLAIN.fullmatch(sound.subtype) else None
    if raw is None:
        if sound.frames == 0:
            raise AudioError("no samples", where=where)
        return Source(sound, _declared(sound), tuple(Notice("length", text) for text in _about_ogg(content)))
    if not raw.found:
        raise AudioError("no samples", where=where)
    whole = _Stream(
        _Tail(content, raw.offset),
        samplerate=sound.samplerate,
        channels=sound.channels,
        format="RAW",
        subtype=sound.subtype,
        endian="BIG" if raw.big_endian else "LITTLE",
    )
    per_second = raw.found / (whole.frames or 1) * sound.samplerate
    return _other(stack, whole, raw.declared / per_second, raw.found / per_second)


def _about_ogg(content: Content) -> Iterator[str]:
    if (links := ogg_links(content)) > 1:
        yield f"{links} recordings one after the other in one file, of which only the first is heard"
    if is_cut_ogg(content):
        yield "the stream has no end: it was cut, or its recorder killed; what is there was read"


def _mpeg_source(sound: Any, content: Content, where: str, stack: ExitStack) -> Source:
    stream = mpeg(content)
    if stream is None:
        return Source(sound, None)
    if stream.count_at is None:  # libmpg123 guesses from the first bit rate; in a pipe it knows of no length
        endless = stack.enter_context(_Stream(_piped(content, stream.first, stack), closefd=True))
        return Source(endless, stream.frames * stream.samples)
    if stream.is_counted:
        return Source(sound, _declared(sound))
    if stream.frames < stream.counted:
        raise truncated(stream.frames / stream.counted, where)
    whole = _Stream(io.BytesIO(_counted(content, stream)))
    seconds = stream.samples / stream.rate
    return _other(stack, whole, stream.counted * seconds, stream.frames * seconds)


def _counted(content: Content, stream: Mpeg) -> bytes:
    assert stream.count_at is not None
    return bytes(content[: stream.count_at]) + stream.frames.to_bytes(4, "big") + bytes(content[stream.count_at + 4 :])


def _piped(content: Content, first: int, stack: ExitStack) -> int:
    """The reading end of a pipe for the content; from a byte on, since libsndfile skips no large tag in a pipe."""
    reading, writing = os.pipe()

    def feed() -> None:
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            for start in range(first, len(content), 1 << 16):
                try:
                    pipe.write(content[start : start + (1 << 16)])
                except (BrokenPipeError, ValueError):  # enough was heard, or the file was closed
                    return

    thread = threading.Thread(target=feed, name="feed", daemon=True)
    stack.callback(thread.join)  # after the reader has closed its end, and before the content is closed
    thread.start()
    return reading


def _flac_source(sound: Any, content: Content, where: str, stack: ExitStack) -> Source:
    declared, found = _declared(sound), flac_samples(content)
    if found is None or declared is None or found == declared:
        return Source(sound, declared or found)
    if found < (1 - TOLERANCE) * declared:
        raise truncated(found / declared, where)
    # 36 bits of the stream's description: 0 is an unknown number of samples
    whole = _Stream(io.BytesIO(b"".join([content[:21], bytes([content[21] & 0xF0, 0, 0, 0, 0]), content[26:]])))
    return _other(stack, whole, declared / sound.samplerate, found / sound.samplerate, frames=found)


def _other(stack: ExitStack, sound: Any, declared: float, found: float, frames: int | None = None) -> Source:
    """The recording opened past its header, with a notice that says so; both lengths in seconds."""
    text = f"the header declares {declared:.1f} s, and {found:.1f} s are there and were read"
    notices = (Notice("length", text),) if found - declared > TOLERANCE * found else ()
    return Source(stack.enter_context(sound), frames or _declared(sound), notices)


def _check_header(sound: Any, where: str) -> None:
    if not RATES[0] <= sound.samplerate <= RATES[1]:
        expected = f"{RATES[0]:,} to {RATES[1]:,} Hz"
        raise AudioError("sample rate out of range", where=where, expected=expected, found=f"{sound.samplerate:,} Hz")
    for declared, found in [(int(a), int(b)) for a, b in _LENGTHS.findall(sound.extra_info)]:
        if declared < _STREAMED and found < (1 - TOLERANCE) * declared:
            raise truncated(found / declared, where)


def _declared(sound: Any) -> int | None:
    """Frames that the header declares; None where it leaves them open."""
    return sound.frames if 0 < sound.frames < 1 << 62 else None


def _reason(error: Exception) -> str:
    text = getattr(error, "error_string", "") or str(error)
    text = _PREFIX.sub("", " ".join(text.split()))
    if not text or "flac decoder" in text or "incomplete" in text:
        return "damaged or truncated"
    if "possibly a pipe" in text:  # libmpg123's, of a file that it takes for an MP3
        return "format not recognised"
    return text[0].lower() + text[1:] if text[1:2].islower() else text
