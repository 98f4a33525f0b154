from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emonet.segments import Segment
from emonet.timelines.cutting import Cutter, GivenCutter, Heard, Piece, SlidingCutter, SpeechCutter, cut_place
from emonet.timelines.options import TimelineOptions
from emonet.timelines.speech import FRAME, Span, SpeechSpans
from emonet.windows import SAMPLE_RATE

OPTIONS = TimelineOptions(longest=5, shortest=1, near=0.5, padding=0.1, pause=0.3)
LONGEST = 5 * SAMPLE_RATE


def stream(
    probabilities: np.ndarray, cutter: Cutter, options: TimelineOptions = OPTIONS, *, block: int = 937
) -> tuple[list[Piece], int]:
    """The pieces, by time, and how many samples were kept at most."""
    spans, known, found, most = SpeechSpans(options), array("f"), list[Piece](), 0
    for start in range(0, len(probabilities), block):
        part = probabilities[start : start + block]
        known.extend(part.tolist())
        samples = len(known) * FRAME
        closed = list(spans.feed(part))
        before = cutter.needed_from
        new = list(cutter.feed(Heard(samples, known, closed, spans, ended=False)))
        assert all(piece.span.start >= before for piece in new)
        found += new
        most = max(most, samples - cutter.needed_from)
    samples = len(probabilities) * FRAME
    found += cutter.feed(Heard(samples, known, list(spans.finish(samples)), spans, ended=True))
    return sorted(found, key=lambda piece: (piece.span.start, piece.span.end)), most


def speech(*parts: tuple[float, float]) -> np.ndarray:
    """Probabilities of so many seconds each."""
    return np.concatenate([np.full(round(seconds * SAMPLE_RATE / FRAME), p, np.float32) for seconds, p in parts])


def seconds(pieces: list[Piece]) -> list[tuple[float, float]]:
    return [(round(p.span.start / SAMPLE_RATE, 1), round(p.span.end / SAMPLE_RATE, 1)) for p in pieces]


def test_speech_between_pauses_is_a_segment_each() -> None:
    found, _ = stream(speech((1, 0), (2, 1), (1, 0), (3, 1), (1, 0)), SpeechCutter(OPTIONS, LONGEST, "a"))
    assert seconds(found) == [(0.9, 3.1), (3.9, 7.1)]
    assert {piece.speaker for piece in found} == {"a"}


def test_a_short_segment_is_joined_with_a_near_neighbour_and_not_with_a_far_one() -> None:
    near, _ = stream(speech((1, 0), (0.5, 1), (0.6, 0), (2, 1), (1, 0)), SpeechCutter(OPTIONS, LONGEST))
    far, _ = stream(speech((1, 0), (0.5, 1), (1.6, 0), (2, 1), (1, 0)), SpeechCutter(OPTIONS, LONGEST))
    assert seconds(near) == [(0.9, 4.2)]
    assert seconds(far) == [(0.9, 1.6), (3.0, 5.2)]


def test_what_would_be_too_long_is_not_joined() -> None:
    found, _ = stream(speech((1, 0), (0.5, 1), (0.6, 0), (4.5, 1), (1, 0)), SpeechCutter(OPTIONS, LONGEST))
    assert len(found) == 2
    assert all(piece.span.samples <= LONGEST for piece in found)


def test_long_speech_is_cut_in_its_longest_pause() -> None:
    parts = ((1, 0), (2.8, 1), (0.1, 0.1), (0.5, 1), (0.2, 0.1), (3, 1), (1, 0))
    found, _ = stream(speech(*parts), SpeechCutter(OPTIONS, LONGEST))
    assert seconds(found) == [(0.9, 4.5), (4.5, 7.7)]


def test_long_speech_without_a_pause_is_cut_where_speech_is_least_likely() -> None:
    parts = ((1, 0), (3, 1), (0.3, 0.6), (4, 1), (1, 0))
    found, _ = stream(speech(*parts), SpeechCutter(OPTIONS, LONGEST))
    assert found[0].span.end == found[1].span.start
    assert 3.9 < found[0].span.end / SAMPLE_RATE < 4.4


def test_a_cut_leaves_room_and_holds_the_limit() -> None:
    flat = np.ones(1000, np.float32).tolist()
    place = cut_place(flat, 16_000, LONGEST, OPTIONS)
    assert 16_000 + LONGEST // 2 <= place <= 16_000 + LONGEST
    tiny = TimelineOptions(longest=0.5, shortest=0.5)
    assert 0 < cut_place(flat, 0, SAMPLE_RATE // 2, tiny) <= SAMPLE_RATE // 2


def test_hours_of_speech_without_a_pause_are_cut_as_they_come() -> None:
    found, most = stream(speech((1200, 1)), SpeechCutter(OPTIONS, LONGEST))
    assert found[0].span.start == 0
    assert found[-1].span.end == 1200 * SAMPLE_RATE
    assert all(one.span.end == after.span.start for one, after in itertools.pairwise(found))
    assert max(piece.span.samples for piece in found) <= LONGEST
    assert most < 3 * LONGEST


CUTTERS: dict[str, Callable[[], Cutter]] = {
    "speech": lambda: SpeechCutter(OPTIONS, LONGEST),
    "sliding": lambda: SlidingCutter(3 * SAMPLE_RATE, SAMPLE_RATE // 2),
    "given": lambda: GivenCutter(
        [Segment(0.5, 17, "a"), Segment(3, 4, "b"), Segment(3.5, 9.1, "a", text="x"), Segment(20, 900, "b")],
        OPTIONS,
        LONGEST,
    ),
}


@pytest.mark.parametrize("kind", CUTTERS)
@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), frames=st.integers(1, 1200), block=st.integers(1, 400), slow=st.integers(1, 40))
def test_pieces_do_not_depend_on_blocks(kind: str, seed: int, frames: int, block: int, slow: int) -> None:
    steps = np.repeat(np.random.default_rng(seed).normal(0.1, 0.4, -(-frames // slow)), slow)[:frames]
    probabilities = np.clip(np.cumsum(steps) % 1.5, 0, 1).astype(np.float32)
    whole, _ = stream(probabilities, CUTTERS[kind](), block=frames)
    parts, _ = stream(probabilities, CUTTERS[kind](), block=block)
    assert parts == whole
    assert all(0 <= piece.span.start < piece.span.end <= frames * FRAME for piece in whole)
    assert all(piece.span.samples <= LONGEST for piece in whole)


def test_sliding_windows_end_with_the_recording() -> None:
    def windows(length: float) -> list[tuple[float, float]]:
        cutter = SlidingCutter(3 * SAMPLE_RATE, SAMPLE_RATE)
        spans, samples = SpeechSpans(OPTIONS), round(length * SAMPLE_RATE)
        pieces = [*cutter.feed(Heard(samples, [], [], spans, ended=False))]
        return seconds([*pieces, *cutter.feed(Heard(samples, [], [], spans, ended=True))])

    assert windows(5) == [(0, 3), (1, 4), (2, 5)]
    assert windows(5.4) == [(0, 3), (1, 4), (2, 5), (3, 5.4)]
    assert windows(2) == [(0, 2)]


def test_given_segments_overlap_and_are_both_heard() -> None:
    given = [Segment(1, 4, "b", text="hello"), Segment(0.5, 3, "a"), Segment(100, 101, "c"), Segment(9, 12, "a")]
    found, _ = stream(speech((10, 1)), GivenCutter(given, OPTIONS, LONGEST))
    assert [(piece.speaker, piece.text) for piece in found] == [("a", ""), ("b", "hello"), ("a", "")]
    assert found[2].span == Span(9 * SAMPLE_RATE, round(10 * SAMPLE_RATE / FRAME) * FRAME)


def test_a_given_segment_that_ends_within_a_frame_is_cut_as_one_that_does_not() -> None:
    samples, known = LONGEST + 300, np.ones((LONGEST + 300) // FRAME, np.float32).tolist()
    given = [Segment(0, samples / SAMPLE_RATE)]

    def cut(*heard: Heard) -> list[Span]:
        cutter = GivenCutter(given, OPTIONS, LONGEST)
        return [piece.span for one in heard for piece in cutter.feed(one)]

    spans = SpeechSpans(OPTIONS)
    # Of the last frame the probability is not known before the recording goes on, or ends.
    early = cut(Heard(samples, known[:156], [], spans, ended=False), Heard(samples, known, [], spans, ended=True))
    assert early == cut(Heard(samples, known, [], spans, ended=True))
    assert max(span.samples for span in early) <= LONGEST
