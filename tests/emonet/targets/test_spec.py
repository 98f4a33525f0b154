from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from emonet.errors import RequestError
from emonet.targets import ATTRIBUTES, EMOTIONS, PLACEMENT, PUBLISHED, QUALITY, Target, TargetSpec, scores_for

REFERENCE = Path(__file__).parents[4] / "shared" / "reference" / "taxonomy.json"


def test_the_forty_emotions_are_those_of_the_paper_in_its_order() -> None:
    assert len(EMOTIONS) == len(EMOTIONS.ids) == len(set(EMOTIONS.ids)) == 40
    assert EMOTIONS.ids[0] == "amusement"
    assert EMOTIONS.ids[-1] == "jealousy"
    assert set(EMOTIONS.low) == {0}
    assert set(EMOTIONS.high) == {4}
    assert all(target.meaning and target.terms for target in EMOTIONS)


@pytest.mark.skipif(not REFERENCE.is_file(), reason=f"no taxonomy at {REFERENCE}")
def test_the_taxonomy_equals_the_reference() -> None:
    rows = json.loads(REFERENCE.read_text("utf-8"))
    assert tuple(row["id"] for row in rows) == EMOTIONS.ids
    assert tuple(row["name"] for row in rows) == EMOTIONS.names
    for row, target in zip(rows, EMOTIONS, strict=True):
        assert tuple(dict.fromkeys(map(str.lower, row["terms"]))) == target.terms


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [
        ("jealousy", "jealousy"),
        ("Jealousy_&_Envy", "jealousy"),
        ("Jealousy / Envy", "jealousy"),
        ("Pleasure/Ecstasy", "pleasure"),
        ("Pleasure", "pleasure"),
        ("Impatience_and_Irritability", "impatience"),
        ("Intoxication_Altered_States_of_Consciousness", "intoxication"),
        ("ANGER", "anger"),
    ],
)
def test_published_spellings_are_aliases(spelling: str, expected: str) -> None:
    assert EMOTIONS[spelling].id == expected


def test_every_published_spelling_names_its_own_target() -> None:
    for target in EMOTIONS:
        for name in (target.id, target.name, target.checkpoint, *target.aliases):
            assert EMOTIONS[name] is target


def test_an_unknown_name_suggests_near_ones() -> None:
    with pytest.raises(RequestError, match=r"(?s)no target called 'angr'.*such as .*anger.*emonet targets"):
        EMOTIONS.index("angr")
    with pytest.raises(RequestError, match=r"one of the 40 ids, such as amusement"):
        EMOTIONS.index("0123456789")


def test_scores_outside_the_range_are_refused_and_missing_ones_are_not() -> None:
    for score in (0, 4, float("nan")):
        EMOTIONS.validate("anger", score)
    for score in (-0.1, 4.1, float("inf")):
        with pytest.raises(RequestError, match=rf"(?s)anger is out of range.*0 to 4.*{score:g}"):
            EMOTIONS.validate("anger", score)


def test_a_subset_keeps_the_order() -> None:
    assert EMOTIONS.subset(["sadness", "Anger", "elation"]).ids == ("elation", "sadness", "anger")
    with pytest.raises(RequestError, match="no target called 'joie'"):
        EMOTIONS.subset(["joie"])


@pytest.mark.parametrize("name", ["", "#", "-"])
def test_what_has_no_letter_or_digit_names_no_target(name: str) -> None:
    own = TargetSpec((Target("stress", "Stress", 1, 5, "how stressed the voice is"),))
    assert name not in own
    with pytest.raises(RequestError, match="no target called"):
        own.index(name)


def test_json_round_trip_keeps_known_terms_and_unknown_targets() -> None:
    own = TargetSpec((*EMOTIONS.subset(["anger"]), Target("stress", "Stress", 1, 5, "how stressed the voice is")))
    again = TargetSpec.from_json(json.loads(json.dumps(own.to_json())))
    assert again == own
    assert again.low.dtype == np.float32
    assert again.high.tolist() == [4, 5]


def test_every_emotion_has_a_place_of_its_own() -> None:
    assert tuple(PLACEMENT) == EMOTIONS.ids
    points = np.array(list(PLACEMENT.values()))
    assert np.abs(points).max() <= 1
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1) + 9 * np.eye(len(points))
    assert distances.min() > 0.3
    assert distances.min(axis=1).max() < 0.5  # nobody is alone: neighbours share scores


def test_scores_fall_with_distance_and_scale_with_intensity() -> None:
    scores = scores_for("Anger", 4)
    assert tuple(scores) == EMOTIONS.ids
    assert scores["anger"] == 4
    assert max(score for name, score in scores.items() if name != "anger") < 3
    assert scores["anger"] > scores["malevolence"] > scores["elation"]
    assert scores["contentment"] == 0
    assert all(
        abs(half - full / 2) <= 0.01
        for half, full in zip(scores_for("anger", 2).values(), scores.values(), strict=True)
    )
    assert set(scores_for("anger", 0).values()) == {0}


@pytest.mark.parametrize("intensity", [-1, 4.5, float("nan")])
def test_an_impossible_intensity_is_refused(intensity: float) -> None:
    with pytest.raises(RequestError, match=r"(?s)out of range|missing.*anger.*0 to 4"):
        scores_for("anger", intensity)


def test_published_targets_have_their_own_scales() -> None:
    assert (len(ATTRIBUTES), len(QUALITY), len(PUBLISHED)) == (15, 4, 59)
    assert PUBLISHED.ids == EMOTIONS.ids + ATTRIBUTES.ids + QUALITY.ids
    assert len(set(PUBLISHED.ids)) == len(set(PUBLISHED.names)) == 59
    scales = {target.id: (target.low, target.high) for target in ATTRIBUTES}
    assert scales["valence"] == scales["submissive_dominant"] == (-3, 3)
    assert scales["gender"] == scales["warm_cold"] == scales["soft_harsh"] == (-2, 2)
    assert scales["age"] == (0, 6)
    assert scales["background_noise"] == (0, 3)
    assert sum(scale == (0, 4) for scale in scales.values()) == 8
    assert {(target.low, target.high) for target in QUALITY} == {(1, 5)}
    assert all(target.meaning and target.checkpoint for target in PUBLISHED)


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [
        ("Submissive_vs._Dominant", "submissive_dominant"),
        ("Vulnerable_vs._Emotionally_Detached", "vulnerable_detached"),
        ("High-Pitched_vs._Low-Pitched", "high_low_pitched"),
        ("score_content_enjoyment", "content_enjoyment"),
        ("Content Enjoyment", "content_enjoyment"),
        ("Dominance", "submissive_dominant"),
        ("Fatigue", "fatigue"),
    ],
)
def test_names_of_published_targets_resolve(spelling: str, expected: str) -> None:
    assert PUBLISHED[spelling].id == expected


def test_no_spelling_of_a_published_target_means_another() -> None:
    for target in PUBLISHED:
        for name in (target.id, target.name, target.checkpoint, *target.aliases):
            assert PUBLISHED[name] is target


def test_a_target_on_a_scale_of_its_own_is_not_the_published_one() -> None:
    own = TargetSpec((Target("age", "Age", 0, 100, "years"), Target("anger", "Anger", 1, 7, "")))
    again = TargetSpec.from_json(json.loads(json.dumps(own.to_json())))
    assert again == own
    assert TargetSpec.from_json(json.loads(json.dumps(PUBLISHED.to_json()))) == PUBLISHED
