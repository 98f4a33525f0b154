"""Cutting: which parts of a recording are scored, told as soon as they are certain, while the recording streams by."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol, final

import numpy as np

from emonet.segments import Segment
from emonet.timelines.options import TimelineOptions
from emonet.timelines.speech import FRAME, LEAVING, Span, SpeechSpans
from emonet.windows import SAMPLE_RATE

_SMOOTHED = 5  # frames (0.16 s) over which the least probability is looked for
LEAST = 0.1  # seconds; there is no voice to judge in less


@dataclass(frozen=True, slots=True)
class Piece:
    """What is scored at once.

    Args:
        span: its samples.
        speaker: who speaks; empty where it is not known.
        text: what is said, or the segment's label; empty without.
    """

    span: Span
    speaker: str = ""
    text: str = ""


@dataclass(frozen=True)
class Heard:
    """What is known of a recording so far.

    Args:
        samples: that have streamed by (count).
        probabilities: of speech, of each whole frame.
        closed: spans of speech whose end has become known since the last time.
        spans: which tell what is still open.
        ended: whether this is all.
    """

    samples: int
    probabilities: Sequence[float]
    closed: Sequence[Span]
    spans: SpeechSpans
    ended: bool


class Cutter(Protocol):
    """Says which pieces are certain; the same pieces however the recording is divided into blocks."""

    def feed(self, heard: Heard) -> Iterator[Piece]:
        """Pieces that are certain now."""

    @property
    def needed_from(self) -> int:
        """No piece that is still to come begins before this sample."""


def cut_place(probabilities: Sequence[float], start: int, longest: int, options: TimelineOptions) -> int:
    """Where speech that is too long is cut best: in its longest pause, else where speech is least likely.

    Args:
        probabilities: of the frames from the recording's beginning to `start + longest` at least.
        start: first sample of what is too long.
        longest: samples that a piece may have.
        options: threshold, shortest segment.

    Returns:
        A sample from the middle to the end of the longest piece, where that leaves the rest room for a segment.
    """
    most = max(longest - round(options.shortest * SAMPLE_RATE), longest // 2)
    first, last = -(-(start + longest // 2) // FRAME), (start + most) // FRAME
    found = np.array(probabilities[first : last + 1], np.float32)
    if not len(found):
        return start + longest
    pauses = _runs(found < max(options.threshold - LEAVING, 0.01))
    if pauses:
        begin, end = max(pauses, key=lambda run: run[1] - run[0])
        middle = (begin + end) / 2
    else:
        width = min(_SMOOTHED, len(found))
        middle = int(np.convolve(found, np.ones(width) / width, "valid").argmin()) + width / 2
    return min(round((first + middle) * FRAME), start + longest)


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """From which to which frame (without it) flags are true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


@final
class SpeechCutter:
    """Segments of speech: what is too long is cut at silence, what is too short is joined with a near neighbour."""

    def __init__(self, options: TimelineOptions, longest: int, speaker: str = "") -> None:
        self._options, self._longest, self._speaker = options, longest, speaker
        self._shortest, self._near = round(options.shortest * SAMPLE_RATE), round(options.near * SAMPLE_RATE)
        self._cut_to: int | None = None  # what is open has been cut up to here
        self._pending: Span | None = None  # may still be joined with the next one
        self._quiet_from = 0

    def feed(self, heard: Heard) -> Iterator[Piece]:
        """Pieces that are certain now."""
        for span in heard.closed:
            yield from self._part(Span(self._cut_to or span.start, span.end), heard)
            self._cut_to = None
        opened = heard.spans.open
        if opened is not None:
            start = self._cut_to or opened.start
            while opened.end - start > self._longest:
                place = cut_place(heard.probabilities, start, self._longest, self._options)
                yield from self._join(Span(start, place))
                self._cut_to = start = place
        self._quiet_from = self._cut_to or heard.spans.quiet_from
        if self._pending is not None and (heard.ended or self._quiet_from - self._pending.end > self._near):
            yield self._piece(self._pending)
            self._pending = None

    def _part(self, span: Span, heard: Heard) -> Iterator[Piece]:
        start = span.start
        while span.end - start > self._longest:
            place = cut_place(heard.probabilities, start, self._longest, self._options)
            yield from self._join(Span(start, place))
            start = place
        yield from self._join(Span(start, span.end))

    def _join(self, span: Span) -> Iterator[Piece]:
        before, self._pending = self._pending, span
        if before is None:
            return
        is_short = min(before.samples, span.samples) < self._shortest
        if is_short and span.start - before.end <= self._near and span.end - before.start <= self._longest:
            self._pending = Span(before.start, span.end)
        else:
            yield self._piece(before)

    def _piece(self, span: Span) -> Piece:
        return Piece(span, self._speaker)

    @property
    def needed_from(self) -> int:
        """No piece that is still to come begins before this sample."""
        return self._quiet_from if self._pending is None else min(self._pending.start, self._quiet_from)


@final
class SlidingCutter:
    """Windows at equal distances; the last one ends with the recording."""

    def __init__(self, window: int, hop: int, speaker: str = "") -> None:
        self._window, self._hop, self._speaker = window, hop, speaker
        self._next = 0  # where the next one begins
        self._covered = 0

    def feed(self, heard: Heard) -> Iterator[Piece]:
        """Pieces that are certain now."""
        while self._next + self._window <= heard.samples:
            yield self._piece(self._next + self._window)
        if heard.ended and self._covered < heard.samples and heard.samples - self._next >= LEAST * SAMPLE_RATE:
            yield self._piece(heard.samples)

    def _piece(self, end: int) -> Piece:
        found = Piece(Span(self._next, end), self._speaker)
        self._next, self._covered = self._next + self._hop, end
        return found

    @property
    def needed_from(self) -> int:
        """No piece that is still to come begins before this sample."""
        return self._next


@final
class GivenCutter:
    """Segments that somebody gives, also such as overlap; what is too long is cut at silence."""

    def __init__(self, segments: Sequence[Segment], options: TimelineOptions, longest: int) -> None:
        self._options, self._longest = options, longest
        self._begun: list[Piece] = []
        self._ahead = deque(
            Piece(Span(round(one.start * SAMPLE_RATE), round(one.end * SAMPLE_RATE)), one.speaker, one.text)
            for one in sorted(segments)
        )

    def feed(self, heard: Heard) -> Iterator[Piece]:
        """Pieces that are certain now."""
        while self._ahead and self._ahead[0].span.start < heard.samples:
            self._begun.append(self._ahead.popleft())
        begun, self._begun = self._begun, []
        whole = heard.samples if heard.ended else len(heard.probabilities) * FRAME
        for piece in begun:
            start, end = piece.span.start, min(piece.span.end, heard.samples) if heard.ended else piece.span.end
            while end - start > self._longest and start + self._longest <= whole:
                place = cut_place(heard.probabilities, start, self._longest, self._options)
                yield replace(piece, span=Span(start, place))
                start = place
            rest = replace(piece, span=Span(start, end))
            if end > whole:
                self._begun.append(rest)
            elif rest.span.samples >= LEAST * SAMPLE_RATE:
                yield rest

    @property
    def needed_from(self) -> int:
        """No piece that is still to come begins before this sample."""
        return min((piece.span.start for piece in [*self._begun, *islice(self._ahead, 1)]), default=1 << 62)
