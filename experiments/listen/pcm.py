"""PCM samples out of bytes as they come: raw ones, or a WAV whose header does not know its length."""

from __future__ import annotations

import struct
from typing import Any, final

import numpy as np

from emonet.errors import RequestError, brief

_TYPES: dict[str, np.dtype[Any]] = {"s16le": np.dtype("<i2"), "s32le": np.dtype("<i4"), "f32le": np.dtype("<f4")}
_KINDS = {(1, 16): "s16le", (1, 32): "s32le", (3, 32): "f32le"}  # format tag and bits of a WAV
_EXTENSIBLE = 0xFFFE  # the tag proper stands further behind
_MOST_HEADER = 1 << 20  # bytes that may stand before the samples


@final
class PcmReader:
    """Turns bytes into samples.

    Args:
        format: `s16le` or `f32le`; `auto` is a WAV by its header, else `s16le`.
        rate: of raw samples, in Hz.

    Raises:
        RequestError: if a format is given without its rate.
    """

    def __init__(self, format: str, rate: int | None) -> None:  # noqa: A002 - as the flag is called
        if format != "auto" and rate is None:
            raise _no_rate("raw samples do not say their rate", f"--format {format}")
        self.rate = rate or 0
        self.ready = format != "auto"
        self.ended = self.begun = False
        self._type, self._channels = _TYPES.get(format, _TYPES["s16le"]), 1
        self._left = b""
        self._most: int | None = None  # bytes of samples, where a header says so

    def begin(self, content: bytes) -> None:
        """Look at the first bytes, until it is known what they are; no bytes are the end.

        Raises:
            RequestError: if they are raw and no rate is given, of a WAV that is not PCM, or if there are none.
        """
        self._left += content
        if not self._left:
            raise nothing_came()
        self.begun, self.ended = True, not content
        if self._left[:4] == b"RIFF"[: len(self._left)] and content and len(self._left) < 12:
            return
        if self._left[:4] == b"RIFF" and self._left[8:12] == b"WAVE":
            self._read_header(ended=not content)
        elif not self.rate:
            raise _no_rate("what comes is no WAV, and raw samples do not say their rate", brief(self._left[:8]))
        else:
            self.ready = True

    def samples(self, content: bytes) -> np.ndarray:
        """The samples that are whole now, of shape (n,) or (n, channels)."""
        self._left += content
        size = self._type.itemsize * self._channels
        whole = len(self._left) // size * size
        if self._most is not None and whole >= self._most:
            whole, self.ended = self._most // size * size, True
        taken, self._left = self._left[:whole], self._left[whole:]
        if self._most is not None:
            self._most -= whole
        found = np.frombuffer(taken, self._type)
        return found if self._channels == 1 else found.reshape(-1, self._channels)

    def _read_header(self, *, ended: bool) -> None:
        place, described = 12, False
        while place + 8 <= len(self._left):
            name, size = self._left[place : place + 4], int.from_bytes(self._left[place + 4 : place + 8], "little")
            body = self._left[place + 8 : place + 8 + size]
            if name == b"data" and described:
                # Recorders that write to a pipe leave the length at 0 or at its largest value.
                self._most = None if size == 0 or size >= 0x7FFFF000 else size
                self._left, self.ready = self._left[place + 8 :], True
                return
            if name == b"fmt " and len(body) == size >= 16:
                self._describe(body)
                described = True
            place += 8 + size + size % 2
        if ended or len(self._left) > _MOST_HEADER:
            raise RequestError("the WAV header has no end", expected="the chunks fmt and data", found=brief(self._left))

    def _describe(self, body: bytes) -> None:
        tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", body)
        if tag == _EXTENSIBLE and len(body) >= 26:
            tag = int.from_bytes(body[24:26], "little")
        if (tag, bits) not in _KINDS or not channels:
            raise RequestError(
                "this WAV cannot be listened to as it comes",
                expected="PCM of 16 or 32 bits, or floats of 32 bits",
                found=f"format {tag} of {bits} bits, {channels} channels",
                hint="ffmpeg -i IN -f wav -c:a pcm_s16le - | emonet listen -",
            )
        self.rate, self._channels, self._type = rate, channels, _TYPES[_KINDS[tag, bits]]


def nothing_came() -> RequestError:
    """Standard input has ended before anything came."""
    return RequestError(
        "nothing came on standard input", hint="see what the program in front of the pipe says: it may have failed"
    )


def _no_rate(what: str, found: str) -> RequestError:
    return RequestError(what, found=found, hint="emonet listen - --rate 16000 --format s16le")
