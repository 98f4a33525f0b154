from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emonet.clips import Clip, Fold, Folds, check_folds, deal_folds, hold_out, leave_one_out, number_of
from emonet.errors import RequestError


def clips_of(counts: dict[str, int]) -> list[Clip]:
    return [Clip(f"{name}/{take}", b"", name, "train") for name, count in counts.items() for take in range(count)]


def speakers(clips: list[Clip], rows: np.ndarray) -> set[str]:
    return {clips[row].speaker for row in rows}


@given(st.lists(st.integers(1, 9), min_size=2, max_size=12), st.data())
def test_dealt_folds_share_no_speaker_and_test_every_clip_once(counts: list[int], data: st.DataObject) -> None:
    clips = clips_of({f"s{number:02d}": count for number, count in enumerate(counts)})
    folds = deal_folds(clips, data.draw(st.integers(2, len(counts)))).folds
    tested = np.concatenate([fold.test for fold in folds])
    assert sorted(tested.tolist()) == list(range(len(clips)))
    for fold in folds:
        held, kind = hold_out(fold, clips)
        parts = [speakers(clips, rows) for rows in (held.test, held.train, held.validation)]
        assert len(held.test) + len(held.train) + len(held.validation) == len(clips)
        assert held.shared(clips) == ()
        assert not parts[0] & (parts[1] | parts[2])
        if kind == "speakers":
            assert not parts[1] & parts[2]
            others = len(parts[1] | parts[2])
            assert len(parts[2]) == max(1, round(0.2 * others))
        else:
            assert parts[1] | parts[2] == speakers(clips, fold.train)
            assert len(parts[1] | parts[2]) == 1


def test_dealing_is_balanced_and_the_same_in_any_order() -> None:
    clips = clips_of({f"s{number:02d}": 60 for number in range(24)} | {"long": 180})
    folds = deal_folds(clips, 6).folds
    assert sorted(len(fold.test) for fold in folds) == [240, 240, 240, 300, 300, 300]
    turned = clips[::-1]
    again = deal_folds(turned, 6).folds
    assert [speakers(clips, fold.test) for fold in folds] == [speakers(turned, fold.test) for fold in again]
    assert [fold.name for fold in folds] == ["1", "2", "3", "4", "5", "6"]
    held = [speakers(clips, hold_out(fold, clips)[0].validation) for fold in folds]
    assert len(set(map(frozenset, held))) > 1, "drawn anew in each fold"


def test_spellings_of_one_person_are_one_speaker() -> None:
    clips = clips_of({"07": 2, "7": 3, "8": 1})
    one, other = leave_one_out(clips).folds
    assert (one.name, len(one.test), other.name) == ("07", 5, "8")
    with pytest.raises(RequestError, match=r"(?s)not so many folds over speakers.*2 to 2.*3 folds, 2 speakers"):
        deal_folds(clips, 3)
    shared = Fold("x", number_of([0]), number_of([2, 5]), number_of(()))
    assert shared.shared(clips) == ("07",)


@pytest.mark.parametrize("count", [-1, 0, 1])
def test_fewer_than_two_folds_are_none(count: int) -> None:
    with pytest.raises(RequestError, match="not so many folds over speakers"):
        deal_folds(clips_of({"a": 1, "b": 1}), count)


def test_one_speaker_cannot_be_left_out() -> None:
    with pytest.raises(RequestError, match="nobody to train on where one speaker is left out"):
        leave_one_out(clips_of({"a": 4}))


def test_clips_of_the_only_training_speaker_are_held_out() -> None:
    clips = clips_of({"a": 10, "b": 2})
    held, kind = hold_out(leave_one_out(clips).folds[1], clips)
    assert (kind, len(held.train), len(held.validation)) == ("clips", 8, 2)


def test_validation_clips_that_a_fold_comes_with_stay() -> None:
    clips = clips_of({"a": 2, "b": 2, "c": 2})
    fold = Fold("x", number_of([0, 1]), number_of([2, 3]), number_of([4]))
    assert hold_out(fold, clips) == (fold, "files")
    assert fold.splits(6) == ["test", "test", "train", "train", "validation", None]


def test_clips_that_are_tested_twice_or_trained_on_are_refused() -> None:
    clips, none = clips_of({"a": 2, "b": 2}), number_of(())
    folds = Folds((
        Fold("one", number_of([0, 1]), number_of([1, 2]), none), Fold("two", number_of([1, 3]), number_of([0]), none)
    ))  # fmt: skip
    with pytest.raises(RequestError) as caught:
        check_folds(folds, clips, "somewhere")
    assert "folds one, two share test clips: a/1" in str(caught.value)
    assert "fold one trains on clips that it tests: a/1" in str(caught.value)
    assert "somewhere" in str(caught.value)


def test_folds_without_usable_clips_are_left_out() -> None:
    clips = clips_of({"a": 1, "b": 1, "c": 1})
    left = leave_one_out(clips).usable(np.array([True, False, True]))
    assert [(fold.name, fold.test.tolist(), fold.train.tolist()) for fold in left.folds] == [
        ("a", [0], [2]),
        ("c", [2], [0]),
    ]
    assert left.remarks == ("left out, since they test no usable clip: the folds b",)
    with pytest.raises(RequestError, match="fold a has no usable clip to train on"):
        leave_one_out(clips).usable(np.array([True, False, False]))
    with pytest.raises(RequestError, match="they test no usable clip"):
        leave_one_out(clips).usable(np.zeros(3, bool))


def test_further_turns_hold_out_everybody_once() -> None:
    clips = [Clip(f"c{row}", b"x", f"s{row % 10}", "train") for row in range(40)]
    fold = deal_folds(clips, 2).folds[0]
    held = [{clips[row].speaker for row in hold_out(fold, clips, turn)[0].validation} for turn in range(6)]
    assert [len(one) for one in held] == [1] * 6
    assert len(set.union(*held[:5])) == 5, "five training speakers, a fifth at a time"
    assert held[5] == held[0]
    assert held[0] == {clips[row].speaker for row in hold_out(fold, clips)[0].validation}
