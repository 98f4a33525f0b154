"""Decoded audio of a corpus, kept in memory where it fits: decoding it again in every epoch is slow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int16

from emonet.audio import decode
from emonet.clips import Clip, Rejection
from emonet.errors import AudioError
from emonet.progress import Progress, silent
from emonet.windows import SAMPLE_RATE, Window

MEMORY_GIB = 4.0
THREADS = min(16, os.cpu_count() or 1)  # libsndfile and soxr release the interpreter's lock
_CHUNK = 256  # clips handed to the threads at a time, so that only so many decoded ones wait
_FULL_SCALE = np.float32(32767)


@dataclass(frozen=True, slots=True)
class _Packed:
    """Audio in 16 bits, scaled by its own peak: half the memory of float32, and exact to 90 dB below it."""

    samples: Int16[np.ndarray, " samples"]
    peak: np.float32

    @classmethod
    def of(cls, waveform: Float32[np.ndarray, " samples"]) -> _Packed:
        peak = np.float32(np.abs(waveform).max())
        return cls(np.rint(waveform * (_FULL_SCALE / peak)).astype(np.int16), peak)

    def unpack(self) -> Float32[np.ndarray, " samples"]:
        return self.samples.astype(np.float32) * (self.peak / _FULL_SCALE)


class Recordings:
    """The audio of some clips, each cut to the window.

    Args:
        clips: what to read.
        window: how much of each clip is kept.
        memory_gib: audio up to this size stays in memory; beyond it every use decodes again (GiB).
        progress: told about the clips decoded while this is built.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        window: Window,
        *,
        memory_gib: float = MEMORY_GIB,
        progress: Progress = silent,
    ) -> None:
        self._window = window
        self._kept: dict[str, _Packed] = {}
        self._unreadable: dict[str, str] = {}
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="decode")
        self.in_memory = _bytes(clips, window) <= memory_gib * 2**30
        if self.in_memory:
            self._keep(clips, progress)

    def _keep(self, clips: Sequence[Clip], progress: Progress) -> None:
        progress(0, len(clips))
        for first in range(0, len(clips), _CHUNK):
            chunk = clips[first : first + _CHUNK]
            for done, (clip, heard) in enumerate(zip(chunk, self._pool.map(self._decode, chunk), strict=True), 1):
                if heard is not None:
                    self._kept[clip.id] = _Packed.of(heard)
                progress(first + done, len(clips))

    @property
    def unreadable(self) -> tuple[Rejection, ...]:
        """Clips that could not be read so far, with their reasons; all of them where the audio is in memory."""
        return tuple(Rejection(clip_id, reason) for clip_id, reason in sorted(self._unreadable.items()))

    def readable(self, clips: Sequence[Clip]) -> tuple[Clip, ...]:
        """Those of `clips` that are not known to be unreadable."""
        return tuple(clip for clip in clips if clip.id not in self._unreadable)

    def read(self, clips: Sequence[Clip]) -> list[Float32[np.ndarray, "..."] | None]:
        """The clips' audio, each of shape (samples,) at 16 kHz; None for a clip that cannot be read."""
        if self.in_memory:
            return [self._kept[clip.id].unpack() if clip.id in self._kept else None for clip in clips]
        return list(self._pool.map(self._decode, clips))

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(cancel_futures=True)

    def _decode(self, clip: Clip) -> Float32[np.ndarray, " samples"] | None:
        try:
            return decode(clip.audio, start=clip.start, end=clip.end, seconds=self._window.seconds)
        except AudioError as error:
            self._unreadable[clip.id] = error.what
            return None


def _bytes(clips: Sequence[Clip], window: Window) -> float:
    """Size of the packed audio; a clip of unknown length counts as a whole window."""
    seconds = (min(window.seconds, clip.seconds) if clip.seconds > 0 else window.seconds for clip in clips)
    return sum(seconds) * SAMPLE_RATE * np.dtype(np.int16).itemsize
