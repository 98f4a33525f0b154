"""What libsndfile does not read, opened by FFmpeg's libraries in the wheel `av`: M4A, AAC, WebM, AMR, WMA, video."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Final

from emonet.audio.lengths import Content
from emonet.audio.media.containers import MP4, container_of, mp4_atoms
from emonet.audio.media.demuxing import Readable, demuxed
from emonet.audio.media.durations import track_length
from emonet.audio.media.sound import ENCRYPTED, Sound
from emonet.audio.notices import Notice
from emonet.audio.source import CONVERT, Source
from emonet.errors import AudioError

_SHARED: Final = {"ogg", "wav", "caf", "iff"}  # containers of libsndfile's, too: what it refuses of plain samples stays
# refused, but codecs that it lacks are decoded
_LOCKED: Final = {"drms", "enca", "aavd"}  # MP4's names of encrypted sound


def media_source(audio: Readable, content: Content, where: str, stack: ExitStack) -> Source | None:
    """Open what libsndfile refuses; None if it is no container that is known here, either.

    Args:
        audio: path of a file, or the encoded bytes of one.
        content: its bytes.
        where: how messages name it.
        stack: closes it.

    Raises:
        AudioError: if it holds no sound, or is encrypted, damaged, cut short, or of an unknown codec.
    """
    container = _container(audio, content, where, stack)
    if container is None:
        return None
    is_known = container_of(content) is not None  # else FFmpeg may have gone by the file's name
    if not (is_known or container.streams):
        return None
    track = _track(container, where)
    if container.format.name in _SHARED and track.codec_context.name.startswith("pcm_"):
        return None
    try:
        sound = Sound(container, track, where)
    except AudioError:
        if is_known:
            raise
        return None
    about, notices = track_length(audio, container, track, content, where)
    return Source(sound, None, _track_notices(container) + notices, about, sound.damage)


def _container(audio: Readable, content: Content, where: str, stack: ExitStack) -> Any:
    """The open container; None if none is recognised."""
    import av

    try:
        return demuxed(audio, stack)
    except (av.error.FFmpegError, ValueError) as error:
        kind = container_of(content)
        if kind is None:
            return None
        if kind == MP4 and b"moov" not in mp4_atoms(content):
            what = "truncated: the index (moov), which most recorders write at the end, is missing"
            raise AudioError(what, where=where, hint="copy or download the file again") from error
        raise AudioError(f"not readable: damaged or truncated {kind}", where=where, hint=CONVERT) from error


def _track(container: Any, where: str) -> Any:
    """The first audio stream that can be decoded."""
    tracks = container.streams.audio
    if not tracks:
        others = sorted({stream.type for stream in container.streams})
        found = f"only {' and '.join(others)}" if others else "nothing"
        raise AudioError("no sound track in it", where=where, found=found)
    described = [track for track in tracks if track.codec_context is not None]
    for track in described:
        if track.codec_context.codec_tag not in _LOCKED:
            return track
    if described:
        raise AudioError(ENCRYPTED, where=where)
    raise AudioError("its sound is of a codec that nothing here decodes, or damaged", where=where, hint=CONVERT)


def _track_notices(container: Any) -> tuple[Notice, ...]:
    if (count := len(container.streams.audio)) > 1:
        return (Notice("tracks", f"{count} sound tracks in one file, of which only the first is heard"),)
    return ()
