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
