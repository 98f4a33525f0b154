from __future__ import annotations

import numpy as np
import pytest

from emonet.targets import EMOTIONS, NO_CLASS, Classes, Target, TargetSpec, class_targets, majority


def test_classes_have_an_expert_each_in_the_order_of_the_experts() -> None:
    labels = {"happy": "elation", "joy": "elation", "angry": "anger", "sad": "sadness"}
    found = Classes.among(labels, ("anger", "awe", "elation"))
    assert found is not None
    assert dict(found.names) == {"anger": "angry", "elation": "happy/joy"}
    assert found.given(["joy", None, "happy", "angry", "sad", "bored"]).tolist() == [
        1,
        NO_CLASS,
        1,
        0,
        NO_CLASS,
        NO_CLASS,
    ]
    assert Classes.among({"happy": "elation", "joy": "elation"}, EMOTIONS.ids) is None


def test_the_highest_on_its_own_scale_is_predicted() -> None:
    spec = TargetSpec((Target("a", "a", 0, 1, ""), Target("other", "other", 0, 1, ""), Target("b", "b", 1, 5, "")))
    classes = Classes.among({"A": "a", "B": "b"}, spec.ids)
    assert classes is not None
    scores = np.array([[0.9, 1.0, 3.0], [0.5, 0.0, 4.0], [np.nan, 0.0, 5.0], [0.2, np.nan, 1.0]])
    assert classes.predicted(scores, spec).tolist() == [0, 1, NO_CLASS, 0]


def test_the_majority_is_of_what_is_known() -> None:
    assert majority(np.array([NO_CLASS, NO_CLASS, NO_CLASS, 1, 2, 2]), 2).tolist() == [2, 2]
    assert majority(np.array([NO_CLASS]), 1).tolist() == [NO_CLASS]


@pytest.mark.parametrize(
    ("label", "identifier"),
    [
        ("Very sad!", "very_sad"),
        ("01", "class_01"),
        ("ID", "class_id"),
        ("Złość", "złość"),
        ("anxiety/fear", "anxiety_fear"),
    ],
)
def test_each_class_becomes_a_target_from_0_to_1(label: str, identifier: str) -> None:
    target = class_targets([label, label])[label]
    assert (target.id, target.name, target.low, target.high) == (identifier, label, 0.0, 1.0)


def test_class_targets_are_ordered_by_label() -> None:
    assert list(class_targets(["sad", "Happy", "angry"])) == ["angry", "Happy", "sad"]
