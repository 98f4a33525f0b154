"""EDER of any intervals: SpeechBrain's figures, and what must hold for all lists."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emonet.configs import EvaluationConfig
from emonet.errors import RequestError
from emonet.protocols import Interval, diarisation_error, diarisation_table, intervals_of_frames

SECONDS = 10.0
NAMES = ("happy", "angry", "sad", "neutral")


def eder(right: list[Interval], told: list[Interval], **gaps: str | None) -> float:
    rate = diarisation_error(right, told, seconds=SECONDS, **gaps).rate
    assert rate is not None
    return rate


@st.composite
def timelines(draw: st.DrawFn, names: tuple[str, ...] = NAMES) -> list[Interval]:
    """Any intervals, overlapping as they like."""
    intervals = []
    for _ in range(draw(st.integers(0, 6))):
        start, end = sorted(draw(st.tuples(st.integers(0, 40), st.integers(0, 40)).filter(lambda x: x[0] != x[1])))
        intervals.append(Interval(start / 4, end / 4, draw(st.sampled_from(names))))
    return intervals


@given(timelines(), st.sampled_from(["neutral", None]))
@settings(deadline=None)
def test_identical_timelines_have_no_error(one: list[Interval], gap: str | None) -> None:
    found = diarisation_error(one, one[::-1], seconds=SECONDS, given_gaps=gap, predicted_gaps=gap)
    assert found.wrong == 0
    assert found.rate == (0 if found.seconds else None)


@given(timelines(("happy", "angry")), timelines(("sad", "bored")))
@settings(deadline=None)
def test_all_wrong_is_one(one: list[Interval], other: list[Interval]) -> None:
    assert eder(one, other, predicted_gaps="awe") == pytest.approx(1)
    assert eder(one, other, predicted_gaps=None) == pytest.approx(1)


@given(timelines(), timelines(), st.data())
@settings(deadline=None)
def test_splitting_an_interval_changes_nothing(one: list[Interval], other: list[Interval], data: st.DataObject) -> None:
    def split(intervals: list[Interval]) -> list[Interval]:
        parts = []
        for each in intervals:
            cut = each.start + data.draw(st.integers(1, 7)) / 8 * (each.end - each.start)
            parts += [Interval(cut, each.end, each.emotion), Interval(each.start, cut, each.emotion.upper())]
        return parts

    whole, parts = (diarisation_error(a, b, seconds=SECONDS) for a, b in ((one, other), (split(one), split(other))))
    for name in ("seconds", "missed", "false_alarm", "confusion"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), abs=1e-9)


@given(timelines(), timelines())
@settings(deadline=None)
def test_errors_lie_between_nothing_and_everything_and_mirror(one: list[Interval], other: list[Interval]) -> None:
    """Whoever is right: the whole is the same, what one misses is the other's false alarm."""
    here, there = (diarisation_error(a, b, seconds=SECONDS) for a, b in ((one, other), (other, one)))
    assert 0 <= here.wrong <= here.seconds + 1e-9
    assert min(here.missed, here.false_alarm, here.confusion) >= 0
    assert (here.missed, here.false_alarm, here.confusion) == pytest.approx(
        (there.false_alarm, there.missed, there.confusion), abs=1e-9
    )


def speechbrain(labels: str, event: tuple[str, float, float], seconds: float, window: float, stride: float) -> float:
    """SpeechBrain's rule, on a fine grid: a moment's window is that whose half of an overlap it lies in.

    Merged windows of one emotion end with the last; the cut to the next emotion is the middle of the overlap.
    """
    emotion, start, end = event
    cuts = [0.0] + [(stride * k + stride * (k - 1) + window) / 2 for k in range(1, len(labels))]
    cuts.append(stride * (len(labels) - 1) + window)
    steps = 20_000
    right = 0
    for step in range(steps):
        time = (step + 0.5) * seconds / steps
        truth = emotion if start <= time < end else "n"
        told = next((labels[k] for k in range(len(labels)) if cuts[k] <= time < cuts[k + 1]), None)
        right += truth == told
    return 1 - right / steps


GOLDEN = [
    ("aaaa", ("a", 0, 0.8), 0.8, 0.2, 0.2, 0.0),
    ("nnaahhn", ("a", 0.35, 1.05), 1.5, 0.4, 0.2, 0.3666666666666667),
    ("nahsnahs", ("h", 0.4, 1.3), 1.75, 0.3, 0.2, 0.7142857142857143),
    ("sssnnnnaa", ("s", 0.0, 1.0), 2.5, 1.0, 0.2, 0.2799999999999999),
    ("nan", ("a", 0.25, 0.7), 1.0, 0.2, 0.3, 0.4999999999999999),
    ("h", ("h", 0.1, 0.2), 1.0, 0.2, 0.2, 0.9),
]
"""Windows' labels, the event, length of clip, window and stride in seconds, EDER by a transcription of speechbrain/utils/EDER.py."""

LETTERS = {"n": "neutral", "a": "angry", "h": "happy", "s": "sad"}


def ours(labels: str, event: tuple[str, float, float], seconds: float, window: float, stride: float) -> float:
    frames = intervals_of_frames([LETTERS[one] for one in labels], window=window, stride=stride)
    right = [Interval(event[1], event[2], LETTERS[event[0]])]
    rate = diarisation_error(right, frames, seconds=seconds, predicted_gaps=None).rate
    assert rate is not None
    return rate


def test_speechbrains_documented_example() -> None:
    assert ours("nnnaaa", ("a", 0.39, 1.10), 1.22, 0.2, 0.2) == pytest.approx(0.2704918032786885, abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "event", "seconds", "window", "stride", "rate"),
    GOLDEN,
)
def test_figures_of_speechbrains_algorithm(
    labels: str, event: tuple[str, float, float], seconds: float, window: float, stride: float, rate: float
) -> None:
    assert ours(labels, event, seconds, window, stride) == pytest.approx(rate, abs=1e-9)


@given(
    st.text("nahs", min_size=1, max_size=12),
    st.sampled_from([(0.2, 0.2), (0.4, 0.2), (0.3, 0.2)]),
    st.tuples(st.sampled_from("ahs"), st.integers(0, 9), st.integers(1, 10)).filter(lambda x: x[1] < x[2]),
)
@settings(deadline=None, max_examples=30)
def test_one_event_is_speechbrains(labels: str, windows: tuple[float, float], event: tuple[str, int, int]) -> None:
    seconds = 2.0
    timed = (event[0], event[1] * seconds / 10, event[2] * seconds / 10)
    assert ours(labels, timed, seconds, *windows) == pytest.approx(
        speechbrain(labels, timed, seconds, *windows), abs=2e-3
    )


def test_overlaps_of_windows_are_halved() -> None:
    frames = intervals_of_frames(["happy", "Happy", "sad", "happy"], window=2, stride=1)
    assert frames == (Interval(0, 2.5, "happy"), Interval(2.5, 3.5, "sad"), Interval(3.5, 5, "happy"))
    assert intervals_of_frames(["a", "a"], window=1, stride=2) == (Interval(0, 1, "a"), Interval(2, 3, "a"))
    assert intervals_of_frames([], window=1, stride=1) == ()
    with pytest.raises(RequestError, match="windows have no length"):
        intervals_of_frames(["a"], window=1, stride=0)


def test_several_events_by_hand() -> None:
    right = [Interval(1, 3, "happy"), Interval(5, 8, "angry")]
    told = [Interval(2, 4, "happy"), Interval(5, 7, "sad"), Interval(7, 8, "angry")]
    found = diarisation_error(right, told, seconds=10)
    assert (found.missed, found.false_alarm, found.confusion) == (1, 1, 2)
    assert found.rate == pytest.approx(0.4)


def test_emotions_at_once_share_the_time() -> None:
    both = [Interval(0, 10, "happy"), Interval(0, 10, "surprised")]
    assert eder(both, [Interval(0, 10, "happy")]) == 0.5
    assert eder([Interval(0, 10, "happy")], both) == 0.5
    assert eder(both, [Interval(0, 10, "happy"), Interval(0, 10, "sad")]) == 0.5
    found = diarisation_error(both, [Interval(0, 10, "happy")], seconds=10)
    assert (found.missed, found.false_alarm, found.confusion) == (5, 0, 0)


def test_first_letters_are_not_enough() -> None:
    """SpeechBrain's comparison takes these for the same."""
    assert eder([Interval(0, 10, "angry")], [Interval(0, 10, "amused")]) == 1
    assert eder([Interval(0, 10, "neutral")], [Interval(0, 10, "nervous")]) == 1
    assert eder([Interval(0, 10, "Angry")], [Interval(0, 10, "angry ")]) == 0


def test_gaps_are_neutral_or_nothing() -> None:
    right, told = [Interval(0, 4, "happy")], [Interval(0, 2, "happy")]
    assert eder(right, told) == pytest.approx(0.2)
    unlabelled = diarisation_error(right, [Interval(0, 10, "happy")], seconds=10, given_gaps=None)
    assert (unlabelled.seconds, unlabelled.rate) == (4, 0)
    assert eder(right, told, predicted_gaps=None) == pytest.approx(0.8)  # nothing is not neutral
    assert diarisation_error([], told, seconds=10, given_gaps=None).rate is None


def test_predictions_behind_the_end_do_not_count() -> None:
    assert eder([Interval(0, 10, "sad")], [Interval(0, 30, "sad"), Interval(12, 40, "angry")]) == 0


@pytest.mark.parametrize(
    ("right", "told", "message"),
    [
        ([Interval(0, 11, "sad")], [], "given 'sad' from 0 to 11 s: the clip ends at 10 s"),
        ([Interval(2, 2, "sad")], [], "the end behind the start"),
        ([], [Interval(-1, 2, "sad")], "predicted 'sad' from -1 to 2 s: times are numbers from 0"),
        ([], [Interval(0, math.nan, "sad")], "times are numbers from 0"),
        ([Interval(0, 1, " ")], [], "the emotion has no name"),
    ],
)
def test_intervals_that_are_none(right: list[Interval], told: list[Interval], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        diarisation_error(right, told, seconds=SECONDS)


def test_the_table() -> None:
    clips = [f"c{row}" for row in range(12)]
    right = {clip: [Interval(0, 4 + row % 3, "sad")] for row, clip in enumerate(clips)}
    told = {clip: [Interval(0, 4, "sad")] for clip in clips}
    lengths = {clip: 8.0 + row % 2 * 8 for row, clip in enumerate(clips)}
    speakers = {clip: f"s{row % 6}" for row, clip in enumerate(clips)}
    config = EvaluationConfig(resamples=50)
    table = diarisation_table(right, {"m": told}, seconds=lengths, speakers=speakers, config=config)
    silent, model = table.records()
    assert (silent["model"], model["model"]) == ("neutral throughout", "m")
    assert silent["eder"] == pytest.approx(60 / 144)
    assert model["eder"] == model["missed"] == pytest.approx(12 / 144)
    assert model["per_clip"] == pytest.approx(sum((row % 3) / (8 + row % 2 * 8) for row in range(12)) / 12)
    assert isinstance(model["eder_low"], float)
    assert isinstance(model["eder_high"], float)
    assert model["eder_low"] < model["eder"] < model["eder_high"]
    del told["c3"]
    with pytest.raises(RequestError, match="m: nothing of c3"):
        diarisation_table(right, {"m": told}, seconds=lengths, speakers=speakers, config=config)
