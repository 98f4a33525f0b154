from __future__ import annotations

import math

import pytest
import torch

from emonet.experts import ExpertBank, InputSpec
from emonet.targets import EMOTIONS, NO_CLASS, Classes, TargetSpec
from emonet.training import ExpertStopping, UnweightedAccuracy
from lightningmodules.experts.epoch_metrics import EpochAccuracy, EpochMetrics

TARGETS = ("anger", "fear")


def epochs(*figures: tuple[list[float], list[float]], patience: int = 1) -> list[dict[str, float]]:
    """What is told of epochs with these errors and correlations, which are CCC and Pearson alike."""
    stopping = ExpertStopping(ExpertBank(InputSpec("statistics", "all", 2, 2), TARGETS, (2,), seed=0), patience)
    told = EpochMetrics(TARGETS, stopping)
    return [
        told.take(epoch, TARGETS, {"mae": errors, "pearson": orders, "ccc": orders})
        for epoch, (errors, orders) in enumerate(figures)
    ]


def test_an_expert_that_has_stopped_counts_with_its_best_epoch() -> None:
    first, second, third = epochs(([1.0, 4.0], [0.6, 0.2]), ([2.0, 3.0], [0.1, 0.4]), ([9.0, 2.0], [0.9, 0.8]))
    assert first == pytest.approx(
        {"val_mae": 2.5, "val_pearson": 0.4, "val_ccc": 0.4, "val_mae/anger": 1.0, "val_mae/fear": 4.0}
    )
    assert second == pytest.approx(
        {"val_mae": 2.5, "val_pearson": 0.25, "val_ccc": 0.25, "val_mae/anger": 2.0, "val_mae/fear": 3.0}
    )
    assert third == pytest.approx({"val_mae": 1.5, "val_pearson": 0.7, "val_ccc": 0.7, "val_mae/fear": 2.0})


def test_experts_of_one_target_are_told_as_their_mean() -> None:
    experts = ("anger", "anger.2", "fear", "fear.2")
    stopping = ExpertStopping(ExpertBank(InputSpec("statistics", "all", 2, 2), experts, (2,), seed=0), 1)
    told = EpochMetrics(experts, stopping, ("anger", "anger", "fear", "fear"))
    seen = [
        told.take(epoch, experts, {"mae": errors, "pearson": [0.5] * 4, "ccc": [0.5] * 4})
        for epoch, errors in enumerate([[1.0, 3.0, 5.0, 7.0], [2.0, 1.0, 6.0, 8.0], [2.0, 0.5, 9.0, 9.0]])
    ]
    anger = [metrics.get("val_mae/anger") for metrics in seen]
    assert anger == [2.0, 1.5, 0.75], "anger has stopped in the end, with 1; anger.2 goes on"
    assert [metrics.get("val_mae/fear") for metrics in seen] == [6.0, 7.0, None]


def test_experts_of_one_target_predict_a_class_together() -> None:
    experts, targets = ("anger", "anger.2", "fear", "fear.2"), ("anger", "anger", "fear", "fear")
    stopping = ExpertStopping(ExpertBank(InputSpec("statistics", "all", 2, 2), experts, (2,), seed=0), 1)
    classes = Classes({"anger": "angry", "fear": "afraid"}, {"angry": 0, "afraid": 1})
    spec = TargetSpec(tuple(EMOTIONS[target] for target in TARGETS))
    told = EpochAccuracy(UnweightedAccuracy(classes, spec), experts, stopping, targets)
    told.add(torch.tensor([[0.0, 3.0, 1.0, 1.0], [3.0, 0.0, 2.0, 2.0]]), torch.tensor([0, 1]))
    stopping.update(0, [1.0] * 4)
    assert told.take(0, experts) == {"val_ua": 1.0}, "anger is 1.5 for both clips, fear 1 and 2"


def test_what_is_undefined_is_left_out_of_means() -> None:
    (some,) = epochs(([1.0, 3.0], [math.nan, 0.4]))
    assert (some["val_mae"], some["val_pearson"], some["val_ccc"]) == pytest.approx((2.0, 0.4, 0.4))
    (none,) = epochs(([1.0, 3.0], [math.nan, math.nan]))
    assert set(none) == {"val_mae", "val_mae/anger", "val_mae/fear"}


def test_an_error_that_is_no_number_is_told() -> None:
    (told,) = epochs(([math.nan, 3.0], [math.nan, 0.4]))
    assert math.isnan(told["val_mae"])
    assert math.isnan(told["val_mae/anger"])


def test_an_expert_that_has_stopped_predicts_as_in_its_best_epoch() -> None:
    """Two clips, of anger and of fear; anger stops after the second epoch, fear after the third."""
    bank = ExpertBank(InputSpec("statistics", "all", 2, 2), TARGETS, (2,), seed=0)
    stopping = ExpertStopping(bank, 1)
    classes = Classes({"anger": "angry", "fear": "afraid"}, {"angry": 0, "afraid": 1})
    spec = TargetSpec(tuple(EMOTIONS[target] for target in TARGETS))
    told = EpochAccuracy(UnweightedAccuracy(classes, spec), TARGETS, stopping)

    def epoch(number: int, errors: dict[str, float], *clips: list[float]) -> dict[str, float]:
        told.reset()
        for label, predictions in enumerate(clips):
            told.add(torch.tensor([predictions], dtype=torch.float32), torch.tensor([label]))
        stopping.update(number, list(errors.values()))
        return told.take(number, tuple(errors))

    assert epoch(0, {"anger": 1.0, "fear": 4.0}, [1, 2], [0, 1]) == {"val_ua": 0.5}
    assert epoch(1, {"anger": 2.0, "fear": 3.0}, [0, 0.5], [1, 0.5]) == {"val_ua": 1.0}, "anger is 1 and 0"
    stopping.narrow(bank.narrowed([1]))
    assert epoch(2, {"fear": 9.0}, [2], [-1]) == {"val_ua": 1.0}, "fear is 0.5"


def test_ua_is_not_told_where_no_clip_has_a_class() -> None:
    bank = ExpertBank(InputSpec("statistics", "all", 2, 2), TARGETS, (2,), seed=0)
    stopping = ExpertStopping(bank, 1)
    classes = Classes({"anger": "angry", "fear": "afraid"}, {"angry": 0, "afraid": 1})
    told = EpochAccuracy(UnweightedAccuracy(classes, EMOTIONS.subset(TARGETS)), TARGETS, stopping)
    told.add(torch.rand(3, 2), torch.full((3,), NO_CLASS))
    stopping.update(0, [1.0, 1.0])
    assert told.take(0, TARGETS) == {}
