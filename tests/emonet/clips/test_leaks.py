from __future__ import annotations

import pytest

from emonet.clips import person
from emonet.clips.leaks import doubtful_speakers, shared_recordings, shared_speakers


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("07", "7"),
        ("7.0", "7"),
        ("s007", "S7"),
        ("anna-01", "ANNA-1"),
        ("Eve ", "eve"),
        ("Anna  B", "annab"),
        ("Zo\u00eb", "Zoe\u0308"),
        ("\uff17", "7"),
        ("x\u200b1", "x1"),
        ("stra\u00dfe", "STRASSE"),
    ],
)
def test_ids_of_one_person(one: str, other: str) -> None:
    assert person(one) == person(other)


@pytest.mark.parametrize(("one", "other"), [("7", "70"), ("1.05", "1.5"), ("s1", "s11"), ("a-1", "a_1"), ("0", "00a")])
def test_ids_of_different_people(one: str, other: str) -> None:
    assert person(one) != person(other)


def test_ids_that_look_alike_in_several_splits_are_one_problem() -> None:
    splits = {
        "07": ["train"],
        "7": ["test"],
        "Eve": ["train"],
        "eve": ["validation"],
        "Bob": ["train"],
        "bob": ["train"],
    }
    (problem,) = shared_speakers(splits)
    assert "what look like 2 speakers would be in several splits" in problem
    assert "'07' (train) and '7' (test); 'Eve' (train) and 'eve' (validation) (1 more lie in one split each)" in problem
    (doubt,) = doubtful_speakers(splits)
    assert doubt.endswith("Unicode form: 'Bob' and 'bob'")
    assert shared_speakers({"a": ["train"], "b": ["test"]}) == doubtful_speakers({"a": ["train"]}) == []


def test_a_speaker_in_two_splits_is_named_as_before() -> None:
    assert shared_speakers({"eve": ["train", "test"]}) == [
        "speaker 'eve' is in test and train; a speaker belongs to one split"
    ]


def shared(*clips: tuple[int, float, float, str]) -> list[str]:
    groups, starts, ends, splits = zip(*clips, strict=True)
    return shared_recordings(groups, list(zip(starts, ends, strict=True)), splits, [f"c{i}" for i in range(len(clips))])


def test_parts_of_a_recording_that_overlap_in_two_splits() -> None:
    inf = float("inf")
    assert shared((0, 0, inf, "train"), (0, 0, inf, "test")) == [
        "the same recording is in two splits: 'c0' (train) and 'c1' (test); "
        "a recording belongs to one split (a column `split` decides)"
    ]
    assert shared((0, 0, 10, "train"), (0, 1, 2, "train"), (0, 9, 12, "test"))  # under a long part, a short one
    assert not shared((0, 0, 1, "train"), (0, 1, 2, "test"), (0, 2, inf, "validation"))
    assert not shared((0, 0, 1.005, "train"), (0, 1, 2, "test"))  # rounded
    assert not shared((0, 0, inf, "train"), (0, 0, inf, "train"), (1, 0, inf, "test"))
    assert "and 1 more" in shared(*((g, 0, 1, s) for g in range(4) for s in ("train", "test")))[0]
