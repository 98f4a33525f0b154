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
from pathlib import Path
from typing import Any, Final

import soundfile

from emonet.audio.inside import audio_bytes, lazily
from emonet.audio.lengths import Content, Mpeg, flac_samples, is_adts, is_cut_ogg, mpeg, ogg_links, undeclared
from emonet.audio.media.demuxing import Readable
from emonet.audio.media.opening import media_source
from emonet.audio.notices import Notice
from emonet.audio.source import CONVERT, CUT, TOLERANCE, Source, check_rate, length_notice, truncated, where_of
from emonet.clips import Audio, AudioRange
from emonet.errors import AudioError, EmonetError
from emonet.objects import Ranges, SlicedFile

_STREAMED = 0x7FFF_F000  # bytes; programs that write to a pipe leave a data size from here up in the header
_LENGTHS = re.compile(r"^ *(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
_PREFIX = re.compile(r"^Error (?:: |in \S+ file\. )?|\.$")
_UNREAD = (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError)  # of what libsndfile does not know
_BROKEN = (
    *_UNREAD,
    *(ArithmeticError, LookupError, struct.error),  # of our own look at the bytes, should they be odder than foreseen
)
_PLAIN: Final = re.compile(r"PCM_\w+|FLOAT|DOUBLE|ULAW|ALAW")  # subtypes that are samples one after the other


class _Stream(soundfile.SoundFile):  # type: ignore[misc]
    """Reads forwards only: `SoundFile.read` seeks after a block, which fails in a FLAC of unknown length."""

    def seekable(self) -> bool:
        return False


class _Swallowing(SlicedFile):
    """A file for libsndfile, through which nothing is raised: it ends where it cannot be read; `Ranges` keeps why."""

    def readinto(self, buffer: Any) -> int:
        try:
            return super().readinto(buffer)
        except EmonetError:
            return 0


@contextmanager
def opened(audio: Audio, where: str | None = None) -> Iterator[Source]:
    """Open `audio`; whatever goes wrong with it, also while it is read, is an `AudioError`.

    Args:
        audio: of a range only what is looked at is read.
        where: how messages name it, if not by itself.

    Raises:
        AudioError: if it is missing, empty, unreadable or cut short.
        EmonetError: if the store that it is in does not answer.
    """
    where = where or where_of(audio)
    content: Content = b""
    try:
        with ExitStack() as stack:
            readable = lazily(audio) if isinstance(audio, AudioRange) else audio_bytes(audio)
            content = stack.enter_context(_content(readable, where))
            yield _opened(readable, content, where, stack)
            _raise_unread(content)
    except EmonetError:  # what is said of a recording that seems to end early hides why it does
        _raise_unread(content)
        raise
    except OSError as error:
        _raise_unread(content)
        raise AudioError(f"cannot be opened: {error.strerror or error}", where=where) from error
    except _BROKEN as error:
        _raise_unread(content)
        # soundfile raises TypeError for `.raw`, which has no header to say what is in it.
        raise AudioError(f"not readable: {_reason(error)}", where=where, hint=CONVERT) from error


def _raise_unread(content: Content) -> None:
    """Raise what kept bytes from being read, which a library has swallowed."""
    if isinstance(content, Ranges) and content.error is not None:
        raise content.error


def _opened(audio: Readable, content: Content, where: str, stack: ExitStack) -> Source:
    """The recording as libsndfile reads it, or else FFmpeg; where neither knows it, libsndfile's reason is raised."""
    # A name with bytes that are not UTF-8 is refused as text.
    name: Any = os.fsencode(audio) if isinstance(audio, Path) else _Swallowing(audio)
    try:
        if is_adts(content):  # libmpg123 would look for MP3 in it
            raise ValueError("format not recognised")
        sound = stack.enter_context(_Stream(name))
    except _UNREAD:
        media = media_source(audio, content, where, stack)
        if media is None:
            raise
        return media
    _check_header(sound, where)
    return _source(sound, content, where, stack)


@contextmanager
def _content(audio: Readable, where: str) -> Iterator[Content]:
    """The bytes of a regular file; anything else (a folder, a pipe that would block) raises."""
    if not isinstance(audio, Path):
        if not len(audio):
            raise AudioError("0 bytes", where=where)
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
        _Swallowing(content, raw.offset),
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
        yield CUT


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
                except (BrokenPipeError, ValueError, EmonetError):  # enough was heard, or it was closed or is away
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
    return Source(stack.enter_context(sound), frames or _declared(sound), length_notice(declared, found))


def _check_header(sound: Any, where: str) -> None:
    check_rate(sound.samplerate, where)
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
