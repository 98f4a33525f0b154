"""The sound of a container, packet by packet decoded by FFmpeg, read as libsndfile's files are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from jaxtyping import Float32, Shaped

from emonet.audio.media.demuxing import MP4_FORMAT
from emonet.audio.notices import Notice
from emonet.audio.source import CONVERT, check_rate
from emonet.errors import AudioError

FFMPEG: Final = "FFMPEG"
"""What stands for the format of a `Sound`, which libsndfile's names do not know."""

ENCRYPTED: Final = "its sound is encrypted (copy protection)"
_FAR = 30  # seconds; up to here all is decoded
_WARMING = 2  # seconds, after which a decoder has forgotten that it did not hear what came before
_LARGEST = 1 << 24  # samples per channel of a frame, beyond which its header is damaged


class Sound:
    """The sound track of a container, read as `soundfile.SoundFile` is; forwards only.

    Delays and paddings that the file declares are taken off, as FFmpeg does.

    Args:
        container: an open one of `av`.
        track: its audio stream.
        where: how messages name the recording.

    Raises:
        AudioError: if nothing of it can be decoded.
    """

    format = FFMPEG

    def __init__(self, container: Any, track: Any, where: str) -> None:
        self._container, self._track, self._where = container, track, where
        self._lost = 0  # packets that do not decode
        self.samplerate = 0
        self.channels = 0
        self.subtype = "FLOAT" if track.codec_context.name.startswith("pcm_f") else ""
        track.codec_context.thread_count = 1
        track.codec_context.options = {**track.codec_context.options, "max_samples": str(_LARGEST)}
        self._frames = self._decoded()
        held = next(self._frames, None)
        if held is None:
            codec = track.codec_context.codec.long_name
            what = f"not readable: none of its sound decodes ({codec}): damaged, or encrypted"
            raise AudioError(what, where=where, hint=CONVERT)
        frame = held[0]
        check_rate(frame.sample_rate, where)
        self.samplerate, self.channels = frame.sample_rate, frame.layout.nb_channels
        self._first_pts = frame.pts
        self._rest: Float32[np.ndarray, "frames channels"] | None = self._floats(*held)

    def read(self, frames: int, dtype: str = "float32", always_2d: bool = True) -> Float32[np.ndarray, "_ channels"]:
        """The next frames; fewer where the recording ends."""
        assert dtype == "float32"
        assert always_2d
        taken: list[Float32[np.ndarray, "_ channels"]] = []
        while frames > 0 and self._rest is not None:
            part, rest = self._rest[:frames], self._rest[frames:]
            taken.append(part)
            frames -= len(part)
            self._rest = rest if len(rest) else self._next()
        return np.concatenate(taken) if taken else np.zeros((0, self.channels), np.float32)

    def skip(self, frames: int, tick: Callable[[], None]) -> int:
        """Pass over frames, from the beginning; returns how many there were.

        All up to there is decoded, since its time stamps need not be exact; in an MP4 they are: only 2 s before are.

        Args:
            frames: count.
            tick: called now and then.
        """
        passed = self._jumped(frames - _WARMING * self.samplerate) if frames > _FAR * self.samplerate else 0
        while passed < frames and self._rest is not None:
            left = frames - passed
            if len(self._rest) > left:
                self._rest = self._rest[left:]
                return frames
            passed += len(self._rest)
            held = next(self._frames, None)
            while held is not None and passed + held[1] <= frames:
                passed += held[1]
                tick()
                held = next(self._frames, None)
            self._rest = None if held is None else self._floats(*held)
        return passed

    def _jumped(self, frames: int) -> int:
        """Go to the packet before a frame; returns the frame that is reached, 0 where only reading leads there."""
        is_exact = self._track.time_base * self.samplerate == 1 and self._first_pts is not None
        if self._container.format.name != MP4_FORMAT or not is_exact:
            return 0
        self._container.seek(self._first_pts + frames, stream=self._track)
        self._frames = self._decoded()
        held = next(self._frames, None)
        if held is None or held[0].pts is None or held[0].pts < self._first_pts:
            raise AudioError("not readable: damaged time stamps", where=self._where, hint=CONVERT)
        self._rest = self._floats(*held)
        return int(held[0].pts - self._first_pts)

    def _next(self) -> Float32[np.ndarray, "frames channels"] | None:
        held = next(self._frames, None)
        return None if held is None else self._floats(*held)

    def damage(self) -> tuple[Notice, ...]:
        """What was lost so far."""
        if not self._lost:
            return ()
        lost = "1 piece of it" if self._lost == 1 else f"{self._lost} pieces of it"
        return (Notice("damage", f"damaged: {lost} could not be decoded"),)

    def _decoded(self) -> Iterator[tuple[Any, int]]:
        """Frames, and how many samples of each to take: the last one ends where its packet does."""
        import av

        held: tuple[Any, int] | None = None
        packets = self._container.demux(self._track)
        while True:
            packet = None
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                frames = packet.decode()
            except av.error.EOFError:
                continue
            except (av.error.FFmpegError, av.error.PyAVCallbackError):
                if packet is not None and packet.has_sidedata("encryption_info"):
                    raise AudioError(ENCRYPTED, where=self._where) from None
                self._lost += 1
                continue
            for frame in frames:
                if not frame.samples:
                    continue
                if held is not None:
                    yield held[0], held[0].samples
                held = frame, frame.samples - _spare(packet, frame)
        if held is not None and held[1] > 0:
            yield held

    def _floats(self, frame: Any, count: int) -> Float32[np.ndarray, "frames channels"]:
        channels, rate = frame.layout.nb_channels, frame.sample_rate
        if (rate, channels) != (self.samplerate, self.channels):
            raise AudioError(
                "the recording changes its sample rate or its channels on the way",
                where=self._where,
                expected=f"{self.samplerate:,} Hz, {self.channels} channels",
                found=f"{rate:,} Hz, {channels} channels",
                hint=CONVERT,
            )
        samples = frame.to_ndarray()
        return _full_scale(samples.T if frame.format.is_planar else samples.reshape(-1, channels))[:count]


def _full_scale(samples: Shaped[np.ndarray, "frames channels"]) -> Float32[np.ndarray, "frames channels"]:
    """Samples of any type, as libsndfile brings them to full scale at 1."""
    if samples.dtype.kind == "f":
        return np.ascontiguousarray(samples, np.float32)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / np.float32(128)
    return samples.astype(np.float32) / np.float32(2.0 ** (8 * samples.dtype.itemsize - 1))


def _spare(packet: Any, frame: Any) -> int:
    """Padding at the end of a frame whose packet lasts less, as the last one of an MP4 does."""
    if not packet.duration or packet.time_base is None or packet.time_base * frame.sample_rate != 1:
        return 0
    return max(0, int(frame.samples) - int(packet.duration))
