"""Live streams: samples in as they come, scores of the last seconds out, hop by hop, in bounded memory."""

from __future__ import annotations

import math
import time
from collections import deque
from types import TracebackType
from typing import final

import numpy as np
import soxr
from jaxtyping import Float32

from emonet.audio import RATES, Mixer
from emonet.errors import EmonetError, RequestError, brief
from emonet.inference.hops import Hop, HopScorer, Outcome, Score, StreamScore
from emonet.windows import SAMPLE_RATE, Window

LEAST = 0.5  # seconds that must have been heard before anything is scored; the shortest window of a model
SHORTEST_HOP = 0.05  # seconds
MOST_CHANNELS = 32
PIECE = 0.5  # seconds that are converted at a time, so that a long chunk is not held twice
NOT_FINITE = "NaN or infinite samples among the last seconds"
_WHOLE = {"int16": 2**15, "int32": 2**31}  # full scale


@final
class EmotionStream:
    """Scores the last seconds of sound as it comes; a context manager, made by `EmotionPipeline.open_stream`.

    Hops are scored in a thread that all streams of a pipeline share. `feed` waits for nothing: a hop's scores are
    returned by the first call after they are there. Where sound comes faster than it is scored, the latest hop is
    scored next and those before it are skipped and told; a `lossless` stream scores each one, and `feed` waits for it.

    A stream is fed by one thread; several streams may be fed by several.

    Args:
        scorer: scores the hops of all streams of a pipeline.
        score: scores samples in memory.
        heard: the model's window.
        rate: of the samples, in Hz.
        hop: seconds between two scores.
        window: seconds that each score hears, at most the model's window; None is all of that.
        lossless: score every hop, however long it takes.

    Raises:
        RequestError: if rate, hop or window are out of range.
    """

    def __init__(
        self,
        scorer: HopScorer,
        score: Score,
        heard: Window,
        rate: int,
        *,
        hop: float = 1.0,
        window: float | None = None,
        lossless: bool = False,
    ) -> None:
        seconds = heard.seconds if window is None else window
        _check(rate, hop, seconds, heard)
        self.rate, self.hop, self.window, self.lossless = int(rate), hop, seconds, lossless
        self.skipped = 0  # hops that were not scored (count)
        self._scorer, self._score = scorer, score
        self._hop, self._keep = round(hop * SAMPLE_RATE), round(seconds * SAMPLE_RATE)  # samples at 16 kHz
        self._channels = 0  # known when the first samples are there (count)
        self._recent: _Recent | None = None
        self._resampler: soxr.ResampleStream | None = None
        self._frames = 0  # that were fed
        self._heard = 0  # samples at 16 kHz
        self._ends: deque[float] = deque()  # when the last sample of each hop to come was fed
        self._damaged: deque[tuple[int, int]] = deque()  # where samples are not finite, first and last at 16 kHz
        self._done: deque[Outcome] = deque()
        self._open_hops = 0
        self._closed = False

    def __enter__(self) -> EmotionStream:
        """The stream."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it; after an error nothing more is scored."""
        self._closed = self._closed or kind is not None
        self._scorer.forget(self) if kind is not None else self.close()

    def feed(self, samples: np.ndarray, *, rate: int | None = None) -> list[StreamScore]:
        """Hear some more samples, however many.

        Args:
            samples: int16, int32 or float (full scale at -1 and 1), of shape (n,) or (n, channels).
            rate: of the samples in Hz, if they say so themselves: it must be the stream's.

        Returns:
            The scores that are there since the last call, in order.

        Raises:
            RequestError: if the samples are of another rate, type, shape or number of channels, or the stream is
                closed.
            EmonetError: if a hop could not be scored.
        """
        if self._closed:
            raise RequestError("the stream is closed", hint="open another: pipeline.open_stream(rate)")
        if rate is not None and rate != self.rate:
            raise RequestError(
                "the stream's rate cannot change",
                expected=f"{self.rate} Hz",
                found=f"{rate} Hz",
                hint="close this stream and open another: pipeline.open_stream(rate)",
            )
        block = self._as_block(np.asarray(samples))
        step = max(1, round(PIECE * self.rate))
        for first in range(0, len(block), step):
            self._hear(block[first : first + step])
        if self.lossless:
            self._wait(0)
        return self.take()

    def take(self, timeout: float = 0.0) -> list[StreamScore]:
        """The scores that are there since the last call, in order.

        Args:
            timeout: how long to wait for one, in seconds, if there is none and some are being made.

        Raises:
            EmonetError: if a hop could not be scored.
        """
        changed = self._scorer.changed
        with changed:
            if timeout > 0:
                changed.wait_for(lambda: self._done or not self._open_hops, timeout)
            taken: list[StreamScore] = []
            while self._done:
                outcome = self._done.popleft()
                if isinstance(outcome, EmonetError):
                    self._done.extendleft(reversed(taken))  # they are given at the next call
                    raise outcome
                taken.append(outcome)
            return taken

    def close(self) -> list[StreamScore]:
        """End the stream: what was heard since the last hop is scored, too; returns the scores that were left.

        Closing a second time returns nothing.

        Raises:
            EmonetError: if a hop could not be scored.
        """
        if not self._closed:
            self._closed = True
            if self._resampler is not None and self._recent is not None:
                self._split(self._resampled(np.zeros((0, self._recent.columns), np.float32), last=True))
            if self._heard % self._hop:
                self._ends.append(time.monotonic())
                self._cut()
            self._wait(0)
        return self.take()

    def _hear(self, piece: np.ndarray) -> None:
        now = time.monotonic()
        sound = _with_mix(_to_float(piece))
        finite = np.isfinite(sound).all(axis=1)
        if not finite.all():
            bad = np.flatnonzero(~finite)
            self._mark(int(bad[0]), int(bad[-1]))
            sound = np.where(finite[:, None], sound, np.float32(0))
        before, self._frames = self._frames * SAMPLE_RATE, self._frames + len(piece)
        step = self._hop * self.rate
        self._ends.extend([now] * (self._frames * SAMPLE_RATE // step - before // step))
        self._split(sound if self.rate == SAMPLE_RATE else self._resampled(sound))

    def _resampled(self, sound: np.ndarray, *, last: bool = False) -> np.ndarray:
        if self._resampler is None:
            self._resampler = soxr.ResampleStream(self.rate, SAMPLE_RATE, sound.shape[1])
        made: np.ndarray = self._resampler.resample_chunk(np.ascontiguousarray(sound), last=last)
        return made.reshape(-1, sound.shape[1])

    def _split(self, sound: np.ndarray) -> None:
        """Keep sound at 16 kHz, and cut a window where a hop ends."""
        assert self._recent is not None
        while len(sound):
            taken = min(len(sound), self._hop - self._heard % self._hop, self._keep)
            self._recent.add(sound[:taken])
            self._heard += taken
            sound = sound[taken:]
            if self._heard % self._hop == 0:
                self._cut()

    def _cut(self) -> None:
        fed = self._ends.popleft() if self._ends else time.monotonic()  # the resampler may round the end up
        start = max(0, self._heard - self._keep)
        if self._heard < LEAST * SAMPLE_RATE:
            return
        assert self._recent is not None
        while self._damaged and self._damaged[0][1] < start:
            self._damaged.popleft()
        damaged = any(first < self._heard for first, _ in self._damaged)
        hop = Hop(
            self, self._score, self._deliver, start / SAMPLE_RATE, self._heard / SAMPLE_RATE,
            self._recent.last(self._heard - start), fed, self.lossless, NOT_FINITE if damaged else None,
        )  # fmt: skip
        if self.lossless:
            self._wait(2 * self._scorer.together - 1)
        with self._scorer.changed:
            replaced = self._scorer.submit(hop)
            self._open_hops += not replaced
            self.skipped += replaced

    def _mark(self, first: int, last: int) -> None:
        """Note where samples are damaged; what lies nearer than a window belongs together: no window fits between."""
        begin = (self._frames + first) * SAMPLE_RATE // self.rate
        end = math.ceil((self._frames + last + 1) * SAMPLE_RATE / self.rate)
        if self._damaged and begin - self._damaged[-1][1] <= self._keep:
            begin = self._damaged.pop()[0]
        self._damaged.append((begin, end))

    def _deliver(self, outcome: Outcome) -> None:
        self._done.append(outcome)
        self._open_hops -= 1

    def _wait(self, most: int) -> None:
        """Until at most so many hops are on their way."""
        with self._scorer.changed:
            self._scorer.changed.wait_for(lambda: self._open_hops <= most)

    def _as_block(self, samples: np.ndarray) -> np.ndarray:
        kind = samples.dtype.name
        if kind not in _WHOLE and samples.dtype.kind != "f":
            raise RequestError(
                "samples are of another type", expected="int16, int32 or float32", found=f"{kind}: {brief(samples)}"
            )
        if samples.ndim not in (1, 2) or (samples.ndim == 2 and not 1 <= samples.shape[1] <= MOST_CHANNELS):
            raise RequestError(
                "samples are of another shape",
                expected=f"(n,) or (n, channels), of at most {MOST_CHANNELS} channels",
                found=samples.shape,
                hint="samples.T, if channels come first" if samples.ndim == 2 else None,
            )
        block: np.ndarray = samples.reshape(len(samples), -1) if len(samples) else np.zeros((0, 1), np.float32)
        if not len(block):
            return block
        if self._recent is None:
            self._channels = block.shape[1]
            self._recent = _Recent(self._keep, self._channels + (self._channels > 1))
        if block.shape[1] != self._channels:
            raise RequestError(
                "the stream's number of channels cannot change",
                expected=self._channels,
                found=block.shape[1],
                hint="close this stream and open another: pipeline.open_stream(rate)",
            )
        return block


class _Recent:
    """The last samples, in a buffer of twice their length, so that they are moved seldom."""

    def __init__(self, keep: int, columns: int) -> None:
        self._kept = np.zeros((2 * keep, columns), np.float32)
        self._keep, self._end = keep, 0

    @property
    def columns(self) -> int:
        return int(self._kept.shape[1])

    def add(self, block: Float32[np.ndarray, "frames columns"]) -> None:
        """Samples, at most as many as are kept."""
        if self._end + len(block) > len(self._kept):
            self._kept[: self._keep] = self._kept[self._end - self._keep : self._end].copy()
            self._end = self._keep
        self._kept[self._end : self._end + len(block)] = block
        self._end += len(block)

    def last(self, count: int) -> Float32[np.ndarray, "count columns"]:
        """A copy of the last samples, of those that are there."""
        return self._kept[max(0, self._end - count) : self._end].copy()


def _with_mix(sound: Float32[np.ndarray, "frames channels"]) -> Float32[np.ndarray, "frames columns"]:
    """The mix before the channels, made as that of files: in bf16 the last bit of a sample can be 0.02 of a score."""
    channels = sound.shape[1]
    return sound if channels == 1 else np.column_stack([Mixer(range(channels)).mono(sound), sound])


def _to_float(piece: np.ndarray) -> Float32[np.ndarray, "frames channels"]:
    full = _WHOLE.get(piece.dtype.name)
    with np.errstate(over="ignore"):  # what float32 does not hold is infinite, and told
        return piece.astype(np.float32) if full is None else (piece / np.float64(full)).astype(np.float32)


def _check(rate: object, hop: float, seconds: float, heard: Window) -> None:
    if isinstance(rate, bool) or not isinstance(rate, int | np.integer) or not RATES[0] <= rate <= RATES[1]:
        raise RequestError("the rate is out of range", expected=f"{RATES[0]} to {RATES[1]} Hz", found=brief(rate))
    if not LEAST <= seconds <= heard.seconds:
        raise RequestError(
            "the stream's window is out of range",
            expected=f"{LEAST:g} to {heard.seconds:g} s, which the model hears",
            found=f"{seconds:g} s",
        )
    if not SHORTEST_HOP <= hop <= seconds:
        raise RequestError(
            "the hop is out of range",
            expected=f"{SHORTEST_HOP:g} s to the window of {seconds:g} s: nothing is left out between",
            found=f"{hop:g} s",
        )
