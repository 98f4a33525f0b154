"""A worker process that streams one recording as blocks: mixed, brought to full scale and resampled piece by piece."""

from __future__ import annotations

import json
import math
import os
import pickle
from collections.abc import Callable, Iterator
from typing import final

import numpy as np
import soxr
from jaxtyping import Float32

from emonet.audio.decoding import blocks, check_channels, check_finite, check_length, check_whole, skip
from emonet.audio.inside import held
from emonet.audio.mixing import Mixer
from emonet.audio.notices import Notice
from emonet.audio.opening import opened
from emonet.audio.scale import scale_of
from emonet.audio.source import Source, where_of
from emonet.clips import Audio
from emonet.errors import AudioError, EmonetError
from emonet.runtime import Parent, packed
from emonet.windows import SAMPLE_RATE

TICK, NOTICES, BLOCK, END, REJECTED = 1, 2, 3, 4, 5  # kinds of messages; a tick says that the worker goes on
_PIECE = 30.0  # seconds that are mixed together


def serve() -> None:
    """Stream the recording that is asked for over the pipe, in a worker process."""
    parent = Parent(gone=lambda: os._exit(0))
    for request in parent.requests():
        audio, size, channel, start = pickle.loads(request)  # noqa: S301 from the process that started this one
        try:
            cutter = _Cutter(size, parent)
            for samples, notices in _resampled(audio, min(_PIECE, size / SAMPLE_RATE), channel, start, cutter.tick):
                cutter.take(samples, notices)
            cutter.end(audio)
        except EmonetError as error:
            parent.send(REJECTED, packed(error))


@final
class _Cutter:
    """Sends samples on in blocks of one size."""

    def __init__(self, size: int, parent: Parent) -> None:
        self._size = size
        self._parent = parent
        self._waiting: list[Float32[np.ndarray, " samples"]] = []
        self._told: set[Notice] = set()
        self._all = 0

    def tick(self) -> None:
        """Say that this process goes on, though it has no block yet."""
        self._parent.send(TICK)

    def take(self, samples: Float32[np.ndarray, " samples"], notices: list[Notice]) -> None:
        """Take what follows."""
        if fresh := [notice for notice in dict.fromkeys(notices) if notice not in self._told]:
            self._told.update(fresh)
            self._parent.send(NOTICES, json.dumps([[notice.kind, notice.text] for notice in fresh]).encode())
        self._all += len(samples)
        self._waiting.append(samples)
        while sum(map(len, self._waiting)) >= self._size:
            joined = np.concatenate(self._waiting)
            self._send(joined[: self._size])
            self._waiting = [joined[self._size :]]
        self.tick()

    def end(self, audio: Audio) -> None:
        """Send the last block, and the end."""
        check_length(self._all / SAMPLE_RATE, audio)
        if len(rest := np.concatenate(self._waiting)):
            self._send(rest)
        self._parent.send(END)

    def _send(self, samples: Float32[np.ndarray, " samples"]) -> None:
        self._parent.send(BLOCK, np.ascontiguousarray(samples).data.cast("B"))


def _resampled(
    audio: Audio, seconds: float, channel: int | None, start: float, tick: Callable[[], None]
) -> Iterator[tuple[Float32[np.ndarray, " samples"], list[Notice]]]:
    """Samples at 16 kHz, as they come, with what is odd about them."""
    content, where = held(audio), where_of(audio)
    divisor, scaled = _scale(content, where, channel, tick)
    with opened(content, where) as source:
        rate = source.sound.samplerate
        resampler = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
        first = round(start * rate)
        skip(source, first, where, tick)
        found = 0
        notices = [*source.notices, *([] if scaled is None else [scaled])]
        for piece in _pieces(source, max(1, round(seconds * rate)), tick):
            found += len(piece)
            mono, notice = _mixed(piece, channel)
            check_finite(mono, audio)
            mono = mono if divisor == 1 else mono / np.float32(divisor)
            samples = mono if resampler is None else resampler.resample_chunk(mono)
            yield samples, notices + ([] if notice is None else [notice])
            notices = []
        if not found:
            raise AudioError("no samples", where=where)
        there = math.inf if source.frames is None else float(source.frames - first)
        check_whole(source, first, found, there, where)
        last = np.zeros(0, np.float32)
        yield last if resampler is None else resampler.resample_chunk(last, last=True), list(source.late_notices())


def _pieces(source: Source, frames: int, tick: Callable[[], None]) -> Iterator[Float32[np.ndarray, "frames channels"]]:
    """The whole sound in pieces of so many frames; the last one may be shorter."""
    while True:
        parts = []
        for block in blocks(source.sound, frames):
            parts.append(block)
            tick()
        if not parts:
            return
        yield np.concatenate(parts)


def _mixed(
    piece: Float32[np.ndarray, "frames channels"], channel: int | None
) -> tuple[Float32[np.ndarray, " frames"], Notice | None]:
    """One channel, or the average of those that should be heard."""
    if channel is not None:
        return np.ascontiguousarray(Mixer((channel,)).mono(piece)), None
    mixer = Mixer()
    mono, mix = mixer.mono(piece), mixer.verdict()
    return (mono if mix.channels is None else Mixer(mix.channels).mono(piece)), mix.notice


def _scale(audio: Audio, where: str, channel: int | None, tick: Callable[[], None]) -> tuple[float, Notice | None]:
    """What to divide by, as the loudest piece has it; only floats can need it, and are read through before."""
    with opened(audio, where) as source:
        check_channels(None if channel is None else (channel,), source.sound.channels, where)
        if source.sound.subtype not in {"FLOAT", "DOUBLE"}:
            return 1.0, None
        loudest = np.zeros(1, np.float32)
        for piece in _pieces(source, max(1, round(_PIECE * source.sound.samplerate)), tick):
            mono, _ = _mixed(piece, channel)
            check_finite(mono, audio)
            if np.abs(mono).max() > np.abs(loudest).max():
                loudest = mono
    return scale_of(loudest, where)
