from __future__ import annotations

import math

import pytest
import torch

from emonet.configs import HIDDEN
from emonet.experts import ExpertBank, InputSpec
from emonet.training import ExpertStopping, active_experts

pytestmark = pytest.mark.numeric


@pytest.fixture
def bank() -> ExpertBank:
    return ExpertBank(InputSpec("attention", "all", 3, 2), ("anger", "fear"), HIDDEN["small"])


def mark(bank: ExpertBank, value: float) -> None:
    """Set every weight to one value, as if an optimiser had moved them there."""
    with torch.no_grad():
        for parameter in bank.parameters():
            parameter.fill_(value)


def test_each_expert_goes_back_to_its_own_best_epoch(bank: ExpertBank) -> None:
    stopping = ExpertStopping(bank, patience=2)
    errors = [(3.0, 1.0), (2.0, 2.0), (2.5, 3.0), (1.0, 0.5)]  # fear stops after epoch 2: 0.5 comes too late
    for epoch, each in enumerate(errors):
        mark(bank, float(epoch))
        stopping.update(epoch, each)
    assert stopping.best_epochs == [3, 0]
    assert stopping.best_errors == [1.0, 1.0]
    assert not stopping.all_stopped
    mark(bank, 99.0)
    stopping.restore()
    for expert, value in ((0, 3.0), (1, 0.0)):
        assert all((tensor == value).all() for _, tensor in bank.tensors(expert))


def test_training_ends_when_all_have_stopped(bank: ExpertBank) -> None:
    stopping = ExpertStopping(bank, patience=1)
    stopping.update(0, [1.0, 1.0])
    assert not stopping.all_stopped
    stopping.update(1, [1.0, 2.0])  # equal is not better
    assert stopping.all_stopped


def test_nan_is_never_better(bank: ExpertBank) -> None:
    stopping = ExpertStopping(bank, patience=5)
    stopping.update(0, [1.0, math.nan])
    stopping.update(1, [math.nan, 2.0])
    assert stopping.best_epochs == [0, 1]


def test_it_tells_who_has_stopped(bank: ExpertBank) -> None:
    stopping = ExpertStopping(bank, patience=1)
    stopping.update(0, [1.0, 1.0])
    stopping.update(1, [0.5, 2.0])
    assert stopping.stopped == (False, True)


def test_copies_are_in_the_weights_own_type_and_go_when_they_are_restored(bank: ExpertBank) -> None:
    bank.first.cast(torch.bfloat16)
    stopping = ExpertStopping(bank, patience=1)
    assert stopping._best == [{}, {}]
    mark(bank, 1.0)
    with torch.inference_mode():  # as validation does
        stopping.update(0, [1.0, 1.0])
    stopping.update(1, [0.9, 1.1])
    kept = {key: tensor.dtype for key, tensor in stopping._best[0].items()}
    assert kept == {key: tensor.dtype for key, tensor in bank.tensors(0)}
    assert kept["proj.weight"] == torch.bfloat16
    mark(bank, 2.0)
    stopping.restore()
    assert all((tensor == 1).all() for _, tensor in bank.tensors(0))
    assert stopping._best == [{}, {}]
    mark(bank, 3.0)
    stopping.restore()  # there is nothing left to restore
    assert all((tensor == 3).all() for _, tensor in bank.tensors(0))


def test_experts_go_on_in_sixteens() -> None:
    assert active_experts([False] * 3) == [0, 1, 2]
    assert active_experts([False, True, False]) == [0, 1, 2], "fewer stay together"
    assert active_experts([True] * 16 + [False] * 16) == [*range(16, 32)]
    stopped = [expert % 4 > 0 for expert in range(40)]
    assert active_experts(stopped) == sorted([*range(0, 40, 4), 1, 2, 3, 5, 6, 7])
    assert len(active_experts([expert > 16 for expert in range(40)])) == 32
    assert active_experts([True] * 20) == []


def test_a_narrow_bank_is_kept_and_restored_where_it_came_from(bank: ExpertBank) -> None:
    stopping = ExpertStopping(bank, patience=1)
    mark(bank, 1.0)
    stopping.update(0, [1.0, 1.0])
    stopping.update(1, [2.0, 0.5])
    assert stopping.stopped == (True, False)
    narrow = bank.narrowed([1])
    stopping.narrow(narrow)
    assert stopping.stopped == (False,)
    mark(narrow, 7.0)
    stopping.update(2, [0.25])
    assert stopping.best_errors == [1.0, 0.25]
    mark(narrow, 8.0)
    stopping.update(3, [0.5])
    assert stopping.all_stopped
    stopping.restore()
    for expert, value in ((0, 1.0), (1, 7.0)):
        assert all((tensor == value).all() for _, tensor in bank.tensors(expert))
