"""Label variance: distributions of ratings, which clips each rule keeps, and ratings that cannot be used."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from emonet.errors import RequestError
from emonet.protocols import class_distributions, grade_distributions, rules_table


def ratings(*rows: tuple[str, str, str, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["clip", "rater", "target", "score"])


def votes(**clips: str) -> pd.DataFrame:
    """`a="aas"`: three raters, two for anger, one for sadness; a space in between: more than one class a rater."""
    names = {"a": "anger", "s": "sadness", "f": "fear"}
    return ratings(
        *(
            (clip, f"r{rater}", names[letter], 1.0)
            for clip, each in clips.items()
            for rater, chosen in enumerate(each.split() if " " in each else each)
            for letter in chosen
        )
    )


def test_grades_have_a_probability_density() -> None:
    table = ratings(
        ("b", "r1", "anger", 0), ("b", "r2", "anger", 2), ("b", "r3", "anger", 2), ("b", "r4", "anger", 1),
        ("a", "r1", "anger", 1), ("a", "r2", "anger", 1), ("a", "r1", "fear", 2),
    )  # fmt: skip
    found = grade_distributions(table, "anger")
    assert (found.clips, found.classes, found.raters.tolist()) == (("a", "b"), ("0", "1", "2"), [2, 4])
    assert found.shares.tolist() == [[0, 1, 0], [0.25, 0.25, 0.5]]
    wide = grade_distributions(table, "fear", grades=[0, 1, 2, 3, 4])
    assert (wide.clips, wide.shares.tolist()) == (("a",), [[0, 0, 1, 0, 0]])
    assert found.of(["b", "a"]).shares.tolist() == found.shares[::-1].tolist()


def test_classes_have_one_by_votes() -> None:
    table = pd.concat([votes(a="aas", b="a as f"), ratings(("c", "r0", "anger", 0.0))])
    found, silent = class_distributions(table)
    assert (found.classes, silent) == (("anger", "fear", "sadness"), ("c",))
    assert found.votes.tolist() == [[2, 0, 1], [2, 1, 1]]
    assert found.raters.tolist() == [3, 3]
    only, _ = class_distributions(table, classes=["sadness", "anger"])
    assert only.votes.tolist() == [[1, 2], [1, 2]]


def test_rules_keep_what_they_say() -> None:
    """Six raters: 3 of 6 are a plurality and no majority; ties are neither."""
    found, _ = class_distributions(votes(clear="aaaaaa", most="aaaass", half="aaassf", tie="aassff", near="aaass"))
    assert found.clips == ("clear", "half", "most", "near", "tie")
    plural, major = found.consensus("plurality"), found.consensus("majority")
    assert plural.tolist() == [0, 0, 0, 0, -1]
    assert major.tolist() == [0, -1, 0, 0, -1]
    assert found.kept("all_inclusive").all()


def test_a_majority_is_of_raters_not_of_votes() -> None:
    """All three hear both: neither class has more raters, so there is no consensus; with a lead of one there is."""
    found, _ = class_distributions(votes(both="as as as", lead="as as a"))
    assert found.consensus("majority").tolist() == [-1, 0]


def test_the_table_prints_which_clips_are_kept() -> None:
    found, _ = class_distributions(votes(clear="aaaa", half="aasf", tie="aass"))
    records = rules_table({"mine": found}).records()
    assert [(row["rule"], row["kept"], row["clips"]) for row in records] == [
        ("all_inclusive", 3, 3),
        ("plurality", 2, 3),
        ("majority", 1, 3),
    ]
    assert [row["entropy"] for row in records] == pytest.approx([2.5 / 3, 0.75, 0.0])
    assert records[1]["agreement"] == pytest.approx(0.75)
    none, _ = class_distributions(votes(a="as", b="fa"))
    assert rules_table({"ties": none}).records()[1] | {"kind": None} == {
        "labels": "ties", "rule": "plurality", "kept": 0, "clips": 2, "share": 0.0,
        "raters": None, "entropy": None, "agreement": None, "kind": None,
    }  # fmt: skip


def test_several_sets_are_shown_together_too() -> None:
    one, _ = class_distributions(votes(clear="aaaa", tie="aass"))
    other, _ = class_distributions(votes(x="ffs"))
    together = rules_table({"one": one, "other": other}).records()[6:]
    assert [(row["labels"], row["kept"], row["clips"]) for row in together] == [
        ("together", 3, 3),
        ("together", 2, 3),
        ("together", 2, 3),
    ]
    assert together[0]["raters"] == pytest.approx(11 / 3)


def test_ratings_that_cannot_be_used() -> None:
    good = ratings(("a", "r1", "anger", 1), ("a", "r2", "anger", 2))
    with pytest.raises(RequestError, match="no rater"):
        grade_distributions(good.drop(columns="rater"), "anger")
    with pytest.raises(RequestError, match="rated twice by the same rater: 1, such as a, r1, anger"):
        grade_distributions(pd.concat([good, good.iloc[:1]]), "anger")
    with pytest.raises(RequestError, match=r"scores that are no numbers: 1, such as b, r1, anger"):
        grade_distributions(pd.concat([good, ratings(("b", "r1", "anger", np.nan))]), "anger")
    with pytest.raises(RequestError, match="there are no ratings"):
        grade_distributions(good.iloc[:0], "anger")
    with pytest.raises(RequestError, match="nobody rated 'fear'"):
        grade_distributions(good, "fear")
    with pytest.raises(RequestError, match=r"none of the grades[\s\S]*0, 1[\s\S]*2"):
        grade_distributions(good, "anger", grades=[0, 1])
    many = ratings(*(("a", f"r{n}", "anger", n / 100) for n in range(20)))
    with pytest.raises(RequestError, match="scores have no grades"):
        grade_distributions(many, "anger")
    with pytest.raises(RequestError, match="nothing to be distributed"):
        class_distributions(good)
    with pytest.raises(RequestError, match=r"clips have no rating[\s\S]*none of 1: z"):
        grade_distributions(good, "anger").of(["a", "z"])
