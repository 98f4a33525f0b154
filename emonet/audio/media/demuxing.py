"""Demuxers of FFmpeg, as far as recordings may reach them.

Only those of sound and video files are allowed, none of playlists, pictures or devices, no protocol, and only decoders
of sound: a recording opens no other file, and its pictures are never decoded.
"""

from __future__ import annotations

import io
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

from emonet.objects import Ranges

Readable = Path | bytes | Ranges
"""What is opened as a file: by its path, or bytes that are there or read when they are looked at."""

MP4_FORMAT: Final = "mov,mp4,m4a,3gp,3g2,mj2"
FORMATS: Final = (
    *(MP4_FORMAT, "matroska,webm", "aac", "loas", "amr", "amrnb", "amrwb", "asf", "avi", "flv", "caf"),
    *("mpegts", "mpeg", "ogg", "wav", "xwma", "rm", "ape", "wv", "mpc", "mpc8", "tta", "tak", "shn", "ac3", "eac3"),
    *("dts", "dtshd", "truehd", "mlp", "dsf", "iff", "gsm", "qcp", "oma", "dss", "ilbc", "sbc", "aptx", "nut", "mxf"),
)
"""FFmpeg's names of the containers that are tried."""


def demuxed(audio: Readable, stack: ExitStack) -> Any:
    """A container of `av`, which `stack` closes.

    Raises:
        FFmpegError: if no demuxer takes it.
    """
    import av

    file = stack.enter_context(_file(audio))
    return stack.enter_context(av.open(file, "r", metadata_errors="replace", container_options=_options()))


def _file(audio: Readable) -> Any:
    if isinstance(audio, Ranges):
        return audio.file()
    return io.BytesIO(audio) if isinstance(audio, bytes) else audio.open("rb", buffering=0)


@cache
def _options() -> dict[str, str]:
    import av

    decoders = []
    for name in av.codec.codecs_available:
        with suppress(ValueError):
            if av.Codec(name, "r").type == "audio":
                decoders.append(name)
    return {
        "format_whitelist": ",".join(FORMATS),
        "codec_whitelist": ",".join(sorted(decoders)),
        "protocol_whitelist": "none",
    }
