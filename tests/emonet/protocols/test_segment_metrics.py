from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emonet.protocols import Interval
from emonet.protocols.segment_metrics import SegmentCounts, segment_counts

RIGHT = [Interval(0, 3, "sad"), Interval(3, 6, "angry"), Interval(6, 9, "Angry"), Interval(9, 12, "calm")]


def test_segments_and_changes_by_hand() -> None:
    told = [Interval(0, 2.6, "sad"), Interval(2.6, 4, "calm"), Interval(4, 9.6, "ANGRY"), Interval(9.6, 12, "happy")]
    # three runs; sad and angry are heard, calm is not; 2.6 is within half a second of 3, 9.6 is not of 9
    assert segment_counts(RIGHT, told) == SegmentCounts(segments=3, right=2, given=2, predicted=3, matched=1)
    assert segment_counts(RIGHT, told, collar=0.7).matched == 2


def test_nothing_told_and_itself() -> None:
    assert segment_counts(RIGHT, []) == SegmentCounts(3, 0, 2, 0, 0)
    assert segment_counts(RIGHT, RIGHT) == SegmentCounts(3, 3, 2, 2, 2)
    assert segment_counts([], RIGHT) == SegmentCounts(0, 0, 0, 2, 0)


times = st.lists(st.integers(1, 40).map(lambda tick: tick / 4), max_size=6, unique=True).map(sorted)


@settings(max_examples=60)
@given(times, times, st.sampled_from([0.0, 0.25, 0.5, 1.5]))
def test_changes_are_matched_as_often_as_can_be(truth: list[float], found: list[float], collar: float) -> None:
    def runs(changes: list[float]) -> list[Interval]:
        edges = [0.0, *changes, 11.0]
        return [Interval(a, b, "ab"[number % 2]) for number, (a, b) in enumerate(itertools.pairwise(edges))]

    most = max(
        sum(abs(a - b) <= collar for a, b in zip(some, order, strict=True))
        for size in range(min(len(truth), len(found)) + 1)
        for some in itertools.combinations(truth, size)
        for order in itertools.combinations(found, size)  # crossing pairs are never needed
    )
    assert segment_counts(runs(truth), runs(found), collar=collar).matched == most


def test_segments_are_judged_by_the_longest_part() -> None:
    told = [Interval(0, 1.4, "calm"), Interval(1.4, 3, "sad")]
    assert segment_counts([Interval(0, 3, "sad")], told).right == 1
    assert segment_counts([Interval(0, 3, "calm")], told).right == 0
    assert segment_counts([Interval(5, 6, "sad")], told) == SegmentCounts(1, 0, 0, 1, 0)


def test_they_stand_in_the_table() -> None:
    from emonet.configs import EvaluationConfig
    from emonet.protocols import diarisation_table

    told = {"a": RIGHT, "b": [Interval(0, 12, "calm")]}
    table = diarisation_table(
        {"a": RIGHT, "b": RIGHT},
        {"m": told},
        seconds={"a": 12.0, "b": 12.0},
        speakers={"a": "x", "b": "y"},
        config=EvaluationConfig(resamples=20),
    )
    silent, model = table.records()
    assert (silent["segments_right"], silent["change_f1"]) == (0, 0)
    assert model["segments_right"] == pytest.approx(4 / 6)
    assert model["change_f1"] == pytest.approx(2 * 2 / (4 + 2))


def test_a_gap_ends_a_segment_and_is_no_change_by_itself() -> None:
    parted = [Interval(0, 3, "sad"), Interval(6, 9, "sad"), Interval(9.005, 12, "Sad")]
    assert segment_counts(parted, [Interval(0, 3, "sad")]) == SegmentCounts(2, 1, 0, 0, 0)
    assert segment_counts([Interval(0, 12, "sad")], parted) == SegmentCounts(1, 1, 0, 0, 0)


@pytest.mark.parametrize(("gaps", "segments", "f1"), [("neutral", 2 / 5, 2 / 5), (None, 1, 0)])
def test_gaps_in_the_table_are_what_they_stand_for(gaps: str | None, segments: float, f1: float) -> None:
    from emonet.configs import EvaluationConfig
    from emonet.protocols import diarisation_table

    table = diarisation_table(  # neutral, sad, neutral, angry, neutral; or sad, angry
        {"a": [Interval(2, 4, "sad"), Interval(6, 8, "angry")]},
        {"m": {"a": [Interval(0, 4.5, "sad"), Interval(4.5, 12, "angry")]}},
        seconds={"a": 12.0},
        speakers={"a": "x"},
        config=EvaluationConfig(resamples=20),
        given_gaps=gaps,
        predicted_gaps=gaps,
    )
    silent, model = table.records()
    assert model["segments_right"] == pytest.approx(segments)
    assert silent["segments_right"] == pytest.approx(3 / 5 if gaps else 0)
    assert model["change_f1"] == pytest.approx(f1)
