"""Consensus: what each rule keeps of ratings whose answers are known, and which scores it makes."""

from __future__ import annotations

import pytest

from emonet import EMOTIONS
from emonet.protocols import RULES, Bench, BenchSample, Ratings, Rule, agree, consensus_table


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_keeps_what_was_counted_by_hand(bench: Bench, sample: BenchSample, rule: Rule) -> None:
    found = agree(bench.ratings, rule)
    assert (found.kept, found.rated) == (sample.kept[rule], sample.rows)
    scores = {(clip, target): score for (clip, target), score in found.ten.stack().dropna().items()}
    assert scores == pytest.approx(dict(sample.scores[rule]))


def test_every_rule_is_in_the_table(bench: Bench, sample: BenchSample) -> None:
    table = consensus_table(bench.ratings)
    assert {row.cells["rule"]: row.cells["kept"] for row in table.rows} == dict(sample.kept)
    for row in table.rows:
        assert row.cells["of"] == sample.rows
        assert row.cells["present"] + row.cells["absent"] == row.cells["kept"]  # type: ignore[operator]


def test_levels_count_where_a_scale_begins_below_zero() -> None:
    """Of -3 to 3, -3 is absent and 0 is present."""
    from emonet.targets import ATTRIBUTES

    rows = [("a", "eve", "valence", -3.0), ("a", "bob", "valence", 0.0), ("b", "eve", "valence", 0.0)]
    ratings = Ratings.of([*rows, ("b", "bob", "valence", 3.0)], ATTRIBUTES)
    found = agree(ratings, "unanimous")
    assert found.ten["valence"].dropna().to_dict() == {"b": 7.5}


def test_one_rating_is_no_agreement() -> None:
    ratings = Ratings.of([("a", "eve", "anger", 2.0)], EMOTIONS)
    assert [agree(ratings, rule).kept for rule in RULES] == [0, 0, 0, 0, 1]


def test_the_order_of_raters_matters_to_the_paper() -> None:
    """The first two decide who else is asked."""
    rows = [
        ("a", "eve", 0.0),
        ("a", "bob", 0.0),
        ("a", "ann", 2.0),
        ("b", "eve", 0.0),
        ("b", "ann", 2.0),
        ("b", "bob", 0.0),
    ]
    ratings = Ratings.of([(clip, rater, "anger", score) for clip, rater, score in rows], EMOTIONS)
    assert agree(ratings, "paper").scores["anger"].dropna().to_dict() == {"a": 0.0}


def test_a_summary_says_what_is_kept(bench: Bench, sample: BenchSample) -> None:
    kept, rows = sample.kept["present"], sample.rows
    expected = f"{kept} of {rows} rated clips are kept by the rule 'present', {kept} present"
    assert agree(bench.ratings, "present").summary == expected
