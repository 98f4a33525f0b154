"""Hops of live streams, scored together: one thread per pipeline takes what waits, and puts it into one pass."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np
from jaxtyping import Float32

from emonet.audio import ALL_SILENT, Mixer, sound_notices, to_full_scale
from emonet.errors import AudioError, EmonetError
from emonet.inference.predictions import SampleScores

TOGETHER = 4  # hops per pass: on a processor more gain nothing, and the first of them would wait for the last
IDLE = 2.0  # seconds without a hop, after which the thread ends; the next hop starts another


@dataclass(frozen=True)
class StreamScore:
    """What was heard in the last seconds of a stream.

    Args:
        start: of the window, in seconds from the stream's first sample.
        end: of the window, in seconds.
        scores: target id -> score, in the model's order of targets; empty where the window could not be used.
        uncertainties: target id -> half-width of the score's interval, in its units; only of ensembles.
        unfamiliarity: how far the sound lies from what the model knows; None where the model does not say.
        notices: what should be known of the sound, and of hops that were skipped before it, a line each.
        error: why the window could not be used, else None.
        late_s: seconds from when the window's last sample was fed until its scores were there.
        skipped: hops since the last score that were not scored, because sound came too fast (count).
    """

    start: float
    end: float
    scores: Mapping[str, float] = field(default_factory=dict)
    uncertainties: Mapping[str, float] = field(default_factory=dict)
    unfamiliarity: float | None = None
    notices: tuple[str, ...] = ()
    error: str | None = None
    late_s: float = 0.0
    skipped: int = 0


Score = Callable[[Sequence[np.ndarray]], Sequence[SampleScores]]
Outcome = StreamScore | EmonetError


@dataclass(eq=False)
class Hop:
    """A window that waits to be scored.

    Args:
        stream: whose it is.
        score: scores samples, of all streams of a pipeline in one call.
        deliver: takes the outcome.
        start: in seconds.
        end: in seconds.
        sound: at 16 kHz: all channels mixed, and, where there are several, each by itself behind that.
        fed: when its last sample came, by `time.monotonic`.
        whole: every hop of its stream counts; else a later one takes its place.
        error: why it is not to be scored.
        skipped: hops whose place it has taken (count).
    """

    stream: object
    score: Score
    deliver: Callable[[Outcome], None]
    start: float
    end: float
    sound: Float32[np.ndarray, "frames columns"]
    fed: float
    whole: bool
    error: str | None = None
    skipped: int = 0


@final
class HopScorer:
    """Scores hops of several streams at once, in a thread that runs as long as there are any.

    Args:
        together: hops per pass, at most (count).
    """

    def __init__(self, together: int = TOGETHER) -> None:
        self.together = together
        self.changed = threading.Condition()  # of what waits, and of what streams were given
        self._waiting: list[Hop] = []
        self._thread: threading.Thread | None = None
        self._is_ended = False

    def submit(self, hop: Hop) -> bool:
        """Let a hop wait; returns whether it took the place of an earlier one of its stream, which is not scored."""
        with self.changed:
            older = None if hop.whole else next((one for one in self._waiting if one.stream is hop.stream), None)
            if older is not None:
                self._waiting.remove(older)
                hop.skipped = older.skipped + 1
            self._waiting.append(hop)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="emonet streams", daemon=True)
                self._thread.start()
                atexit.register(self._end)  # a thread that is within PyTorch while Python ends aborts the process
            self.changed.notify_all()
            return older is not None

    def forget(self, stream: object) -> None:
        """Score nothing more of a stream."""
        with self.changed:
            self._waiting = [hop for hop in self._waiting if hop.stream is not stream]

    def _end(self) -> None:
        """Let the thread end after the pass that it is in."""
        with self.changed:
            thread, self._waiting, self._is_ended = self._thread, [], True
            self.changed.notify_all()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            with self.changed:
                if not self.changed.wait_for(lambda: self._waiting or self._is_ended, IDLE) or self._is_ended:
                    self._thread = None
                    atexit.unregister(self._end)
                    return
                # Files can wait, and people at a microphone cannot.
                batch = sorted(self._waiting, key=lambda hop: hop.whole)[: self.together]
                self._waiting = [hop for hop in self._waiting if hop not in batch]
            outcomes = score_hops(batch)
            with self.changed:
                for hop, outcome in zip(batch, outcomes, strict=True):
                    hop.deliver(outcome)
                self.changed.notify_all()
            del batch, outcomes, hop, outcome  # an idle thread keeps no stream and no pipeline


def score_hops(hops: Sequence[Hop]) -> list[Outcome]:
    """Score hops in one pass; one that cannot be used, or makes the pass fail, costs itself only."""
    try:
        return _scored(hops)
    except Exception as error:  # noqa: BLE001  # it is raised where the stream is fed
        if len(hops) > 1:
            return [outcome for hop in hops for outcome in score_hops([hop])]
        return [error if isinstance(error, EmonetError) else _failure(error)]


def _scored(hops: Sequence[Hop]) -> list[Outcome]:
    heard = [_heard(hop) for hop in hops]
    scores = iter(hops[0].score([samples for samples, _, error in heard if error is None]))
    return [
        _outcome(hop, notices, error, next(scores) if error is None else None)
        for hop, (_, notices, error) in zip(hops, heard, strict=True)
    ]


def _heard(hop: Hop) -> tuple[np.ndarray, tuple[str, ...], str | None]:
    """What of a hop is scored, chosen as for recordings; notices; and why it cannot be used."""
    skipped = (
        f"{hop.skipped} hop{'s were' if hop.skipped > 1 else ' was'} skipped: sound comes faster than it is scored"
    )
    told = (skipped,) if hop.skipped else ()
    if hop.error is not None:
        return np.zeros(0, np.float32), told, hop.error
    mono, channels, mixer = hop.sound[:, 0], hop.sound[:, 1:], Mixer()
    if channels.shape[1]:
        mixer.mono(channels)
    mix = mixer.verdict()
    if mix.channels is not None:
        mono = Mixer(mix.channels).mono(channels)
    if mono.min() == mono.max():
        return mono, (*told, ALL_SILENT), None
    try:
        mono, scale = to_full_scale(mono, "the stream")
    except AudioError as error:
        return mono, told, error.reason
    notices = [notice for notice in (mix.notice, scale) if notice is not None] + sound_notices(mono)
    return mono, (*told, *(notice.text for notice in notices)), None


def _outcome(hop: Hop, notices: tuple[str, ...], error: str | None, scored: SampleScores | None) -> StreamScore:
    late, span = time.monotonic() - hop.fed, (hop.start, hop.end)
    if scored is None:
        return StreamScore(*span, notices=notices, error=error, late_s=late, skipped=hop.skipped)
    return StreamScore(
        *span,
        scores=scored.scores,
        uncertainties=scored.uncertainties,
        unfamiliarity=scored.unfamiliarity,
        notices=notices,
        late_s=late,
        skipped=hop.skipped,
    )


def _failure(error: Exception) -> EmonetError:
    failure = EmonetError("a hop of the stream could not be scored", found=f"{type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure
