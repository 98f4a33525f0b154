"""Ratings: what a table of judgements must be, and the long manifest that is read into one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from emonet import EMOTIONS, RequestError
from emonet.protocols import BENCH, Ratings, on_ten, read_ratings
from emonet.targets import PUBLISHED

ROWS = [
    ("a", "eve", "anger", 3.0),
    ("a", "bob", "anger", 1.0),
    ("b", "bob", "anger", 0.0),
    ("a", "bob", "fear", 2.0),
]


def written(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def test_ratings_are_a_table() -> None:
    ratings = Ratings.of(ROWS, EMOTIONS)
    assert (ratings.targets, ratings.clip_ids, ratings.raters) == (("fear", "anger"), ("a", "b"), ("bob", "eve"))
    assert ratings.scale == (0.0, 1.0, 2.0, 3.0)
    np.testing.assert_array_equal(ratings.matrix(["anger"]), [[1, 3], [0, np.nan]])
    assert ratings.matrix().shape == (3, 2)
    assert ratings.items.loc[("a", "anger")].tolist() == [3.0, 1.0]  # in the order in which they were given


def test_what_nobody_rated_cannot_be_asked_for() -> None:
    ratings = Ratings.of(ROWS, EMOTIONS)
    assert len(ratings.only(["Fear"])) == 1
    with pytest.raises(RequestError, match="nobody rated awe"):
        ratings.only(["awe", "fear"])
    with pytest.raises(RequestError, match="no target called 'joyfulnesss'"):
        ratings.only(["joyfulnesss"])


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (("c", "eve", "anger", 4.5), r"'eve' gives clip 'c' 4.5 for anger; 0 to 4 is expected"),
        (("c", "eve", "anger", -1.0), r"'eve' gives clip 'c' -1 for anger"),
        (("c", "eve", "anger", float("nan")), r"'eve' gives clip 'c' nan for anger"),
        (("c", "eve", "wrath", 1.0), r"there is no target 'wrath'"),
        (("a", "eve", "anger", 3.0), r"'eve' rated clip 'a' for anger twice"),
    ],
)
def test_a_wrong_judgement_is_refused(row: tuple[str, str, str, float], problem: str) -> None:
    with pytest.raises(RequestError, match=problem):
        Ratings.of([*ROWS, row], EMOTIONS)


def test_all_problems_are_in_one_message() -> None:
    rows = [*ROWS, ("c", "eve", "anger", 9.0), ("a", "eve", "anger", 2.0)]
    with pytest.raises(RequestError) as caught:
        Ratings.of(rows, EMOTIONS, clips=("a", "b", "c", "d"))
    assert all(text in str(caught.value) for text in ("9 for anger", "twice", "clip 'd' has no raters"))


def test_a_score_between_levels_is_refused() -> None:
    with pytest.raises(RequestError, match=r"1.5 for anger; 0 or 1 or 2 is expected"):
        Ratings.of([("a", "eve", "anger", 1.5)], BENCH, levels=(0.0, 1.0, 2.0))


def test_a_table_needs_its_columns_and_rows() -> None:
    with pytest.raises(RequestError, match="ratings lack a column"):
        Ratings(pd.DataFrame({"clip": ["a"], "score": [1.0]}), EMOTIONS)
    with pytest.raises(RequestError, match="not a single rating"):
        Ratings.of([], EMOTIONS)


def test_scales_meet_at_ten() -> None:
    two, four = BENCH.subset(["anger"]), PUBLISHED.subset(["anger"])
    assert on_ten(np.array([[0.0], [1.0], [2.0]]), two).ravel().tolist() == [0, 5, 10]
    assert on_ten(np.array([[0.0], [1.0], [4.0], [-0.05]]), four).ravel() == pytest.approx([0, 2.5, 10, -0.125])
    assert on_ten(np.array([[-3.0], [0.0]]), PUBLISHED.subset(["valence"])).ravel().tolist() == [0, 5]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_long_manifest_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"ratings{suffix}"
    rows = [{"clip": 7, "rater": "eve", "target": "Jealousy & Envy", "score": 2, "when": "now"}]
    if suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        written(
            path,
            "clip,rater,target,score,when\n7,eve,Jealousy & Envy,2,now\n" if suffix == ".csv" else json.dumps(rows[0]),
        )
    ratings = read_ratings(path)
    assert ratings.table.to_dict("records") == [{"clip": "7", "rater": "eve", "target": "jealousy", "score": 2.0}]
    assert ratings.remarks == ("columns passed over: when",)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("clip,rater,score\na,eve,1", "a file of ratings lacks a column"),
        ("clip,rater,target,score\na,,anger,1", "line 2: a clip without raters"),
        ("clip,rater,target,score\n,eve,anger,1", "line 2: no clip"),
        ("clip,rater,target,score\na,eve,wrath,1", "line 2: there is no target called 'wrath'"),
        ("clip,rater,target,score\na,eve,anger,much", "line 2: the score 'much' is no number"),
        ("clip,rater,target,score\na,eve,anger", "line 2: 3 cells where the header has 4"),
        ("clip,rater,target,score\na,eve,anger,7", "7 for anger; 0 to 4 is expected"),
        ("clip,rater,target,score\na,eve,anger,1\na,eve,Anger,2", "'eve' rated clip 'a' for anger twice"),
        ("clip,rater,target,score", "not a single rating"),
    ],
)
def test_a_wrong_manifest_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(RequestError, match=problem):
        read_ratings(written(tmp_path / "ratings.csv", text))


def test_clips_that_have_to_be_rated_are_named(tmp_path: Path) -> None:
    path = written(tmp_path / "ratings.csv", "clip,rater,target,score\na,eve,anger,1")
    with pytest.raises(RequestError, match="clip 'z' has no raters"):
        read_ratings(path, clips=["a", "z"])


def test_a_missing_manifest_is_said(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="does not exist"):
        read_ratings(tmp_path / "none.csv")
