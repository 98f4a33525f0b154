"""Decoded audio of a corpus, kept in memory where it fits: decoding it again in every epoch is slow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int16

from emonet.audio import Decoded, shared_decoders
from emonet.clips import Clip, Rejection
from emonet.corpora import Sounds
from emonet.errors import AudioError
from emonet.runtime import Progress, ignore
from emonet.windows import SAMPLE_RATE, Window

MEMORY_GIB = 4.0
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

    What was heard of them is gathered in `sounds` where all stays in memory, and is thus decoded once.

    Args:
        clips: what to read.
        window: how much of each clip is kept.
        name: of the corpus, for messages.
        memory_gib: audio up to this size stays in memory; beyond it every use decodes again (GiB).
        progress: told about the clips decoded while this is built.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        window: Window,
        *,
        name: str = "",
        memory_gib: float = MEMORY_GIB,
        progress: Progress = ignore,
    ) -> None:
        self._kept: dict[str, _Packed] = {}
        self._unreadable: dict[str, str] = {}
        self.in_memory = _bytes(clips, window) <= memory_gib * 2**30
        self.sounds = Sounds(name, clips)
        self._seconds = window.seconds
        if self.in_memory:
            self._keep(clips, progress)

    def _keep(self, clips: Sequence[Clip], progress: Progress) -> None:
        progress(0, len(clips))
        for row, (clip, heard) in enumerate(zip(clips, self._decoded(clips), strict=True)):
            if (usable := self._usable(clip, heard)) is not None:
                self._kept[clip.id] = _Packed.of(usable.samples)
                self.sounds.add(row, clip, content=usable.content, seconds=usable.seconds, notices=usable.notices)
            progress(row + 1, len(clips))

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
        heard = zip(clips, self._decoded(clips), strict=True)
        return [None if (one := self._usable(clip, sound)) is None else one.samples for clip, sound in heard]

    def _decoded(self, clips: Sequence[Clip]) -> Iterator[Decoded | AudioError]:
        return shared_decoders().decode(clips, seconds=self._seconds)

    def _usable(self, clip: Clip, heard: Decoded | AudioError) -> Decoded | None:
        if isinstance(heard, AudioError):
            self._unreadable[clip.id] = heard.reason
            return None
        return heard


def _bytes(clips: Sequence[Clip], window: Window) -> float:
    """Size of the packed audio; a clip of unknown length counts as a whole window."""
    seconds = (min(window.seconds, clip.seconds) if clip.seconds > 0 else window.seconds for clip in clips)
    return sum(seconds) * SAMPLE_RATE * np.dtype(np.int16).itemsize
