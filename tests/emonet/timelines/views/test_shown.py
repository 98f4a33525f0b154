from __future__ import annotations

from dataclasses import replace

import pytest

from emonet.targets import ATTRIBUTES, PUBLISHED
from emonet.timelines import ScoredSegment
from emonet.timelines.views.shown import extent_of, strongest_targets
from tests.emonet.timelines.views.made import small


def test_the_strongest_rise_highest_above_what_is_usual() -> None:
    made = small()
    assert strongest_targets(made, 2) == ("fear", "anger"), "the flagged segment does not count"
    usual = {"anger": -1.0, "fear": 0.5, "pride": 2.0}
    rows = tuple(replace(one, standardised=usual) for one in made.segments)
    assert strongest_targets(replace(made, segments=rows), 3) == ("pride", "fear", "anger")
    raw = tuple(replace(one, standardised={}) for one in made.segments)
    assert strongest_targets(replace(made, segments=raw), 2) == ("fear", "anger")
    flagged = tuple(one for one in made.segments if one.flags)
    assert strongest_targets(replace(made, segments=flagged), 1) == ("anger",), "where nothing else is there"


def test_what_is_no_emotion_is_not_ranked_unless_there_is_nothing_else() -> None:
    segment = small().segments[0].segment
    row = ScoredSegment(segment, dict.fromkeys(PUBLISHED.ids, 0.5) | {"anger": 0.6})
    assert set(strongest_targets(small(target_spec=PUBLISHED, segments=(row,)), 50)) == set(PUBLISHED.ranked)
    attributes = small(target_spec=ATTRIBUTES, segments=(replace(row, standardised={}),))
    assert strongest_targets(attributes, 3) == ATTRIBUTES.ids[:3]


def test_a_timeline_reaches_as_far_as_it_can_be_told() -> None:
    assert extent_of(small()) == 12.0
    assert extent_of(small(seconds=float("nan"))) == 11.0
    assert extent_of(small(segments=(), seconds=0.0)) == pytest.approx(0.1)
