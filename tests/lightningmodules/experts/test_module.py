"""Every expert is trained as it would be alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Trainer
from torch.utils.data import DataLoader

from cache.store import FeatureStore
from datamodules.expert_inputs import read_inputs
from datamodules.experts import Batch, ExpertsDataModule
from emonet.configs import HeadsConfig, InputForm
from emonet.experts import ExpertBank, InputSpec
from emonet.targets import EMOTIONS
from emonet.training import ExpertStopping
from lightningmodules.experts import module as heads
from lightningmodules.experts.epoch_metrics import EpochMetrics
from lightningmodules.experts.module import ExpertsModule
from lightningmodules.guards import quiet

pytestmark = pytest.mark.numeric

TARGETS = ("anger", "fear", "awe", "shame")
FRAMES, WIDTH, CLIPS = 6, 8, 96
CONFIG = HeadsConfig(
    epochs=14, patience=2, batch_size=32, learning_rate=0.02, weight_decay=0.1, dropout=(0.1, 0.3), hidden=(24, 12)
)


def batches(
    seed: int, targets: Sequence[str], form: InputForm, dtype: torch.dtype, plain: Sequence[str] = ()
) -> DataLoader[Batch]:
    """Clips whose scores are hard, easy, missing, and weighted; each target's are the same whoever else is there.

    Scores of `plain` targets all weigh the same.
    """
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(CLIPS, FRAMES, WIDTH, generator=generator, dtype=dtype)
    noise = torch.randn(CLIPS, len(TARGETS), generator=generator, dtype=dtype)
    scores = states.mean(1)[:, : len(TARGETS)] * 3 + noise * torch.tensor([0.1, 2.0, 0.5, 4.0])
    scores[torch.rand(scores.shape, generator=generator) < 0.2] = torch.nan
    weights = torch.rand(scores.shape, generator=generator, dtype=dtype)
    weights[:, [TARGETS.index(target) for target in plain]] = 0.5
    columns = [TARGETS.index(target) for target in targets]
    features = InputSpec(form, "all", FRAMES, WIDTH).prepare(states, torch.full((CLIPS,), FRAMES))
    parts = [torch.arange(start, start + 32) for start in range(0, CLIPS, 32)]
    made = [Batch(features.rows(part), scores[part][:, columns], weights[part][:, columns]) for part in parts]
    return DataLoader(made, batch_size=None)


def trained(
    targets: Sequence[str],
    *,
    form: InputForm = "flatten",
    dtype: torch.dtype = torch.float64,
    config: HeadsConfig = CONFIG,
    plain: Sequence[str] = (),
    reports: list[Mapping[str, float]] | None = None,
) -> ExpertsModule:
    """After a whole training, experts back at their best epochs."""
    bank = ExpertBank(InputSpec(form, "all", FRAMES, WIDTH), targets, config.widths, seed=5, dropout=config.dropout)
    module = ExpertsModule(
        bank.to(dtype), config, report=lambda metrics, epoch: None if reports is None else reports.append(metrics)
    )
    trainer = Trainer(
        max_epochs=config.epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    with quiet():
        trainer.fit(module, *(batches(seed, targets, form, dtype, plain) for seed in (0, 1)))
    module.stopping.restore()
    return module


def difference(one: ExpertsModule, other: ExpertsModule, target: str) -> float:
    """Largest between the weights of an expert in two banks."""
    pairs = zip(*(each.bank.tensors(each.bank.targets.index(target)) for each in (one, other)), strict=True)
    return max(float((mine - theirs).abs().max()) for (_, mine), (_, theirs) in pairs)


@pytest.mark.parametrize(("form", "loss"), [("flatten", "mae"), ("flatten", "ccc"), ("statistics", "mae")])
@pytest.mark.parametrize("slice_weights", [1, 1 << 24])
def test_an_expert_in_a_bank_is_the_one_trained_alone(
    form: InputForm, loss: str, slice_weights: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64, where a product's order of summation, which is BLAS's, is lost far below the tolerance."""
    monkeypatch.setattr(heads, "BankOptimiser", partial(heads.BankOptimiser, slice_weights=slice_weights))
    config = HeadsConfig.model_validate(CONFIG.model_dump() | {"loss": loss})
    bank = trained(TARGETS, form=form, config=config)
    groups = [trained(group, form=form, config=config) for group in (TARGETS[2:], TARGETS[1::-1])]
    for position, target in enumerate(TARGETS):
        alone = trained((target,), form=form, config=config)
        group = groups[target in TARGETS[:2]]
        for other in (alone, group):
            assert difference(bank, other, target) < 1e-10, target
            place = other.bank.targets.index(target)
            assert other.stopping.best_epochs[place] == bank.stopping.best_epochs[position]
            assert other.stopping.best_errors[place] == pytest.approx(bank.stopping.best_errors[position], abs=1e-10)
    assert len(set(bank.stopping.best_epochs)) > 2, "they stopped in different epochs"
    assert any(bank.stopping.stopped), "some rested while others went on"


def test_attention_and_float32_agree_but_for_rounding() -> None:
    config = HeadsConfig.model_validate(CONFIG.model_dump() | {"epochs": 3})
    for form, dtype in (("attention", torch.float32), ("flatten", torch.float32)):
        bank = trained(TARGETS, form=form, dtype=dtype, config=config)
        for target in TARGETS:
            assert difference(bank, trained((target,), form=form, dtype=dtype, config=config), target) < 1e-3


def test_float32_experts_are_equal_bit_by_bit_where_products_are() -> None:
    """In another order the products are of the same size, but a kernel may sum another row of them in another order."""
    bank, turned = (trained(targets, dtype=torch.float32) for targets in (TARGETS, TARGETS[::-1]))
    again = trained(TARGETS, dtype=torch.float32)
    for target in TARGETS:
        assert difference(bank, again, target) == 0
        assert difference(bank, turned, target) < 1e-3, target


def test_weights_count_for_the_expert_whose_they_are() -> None:
    weighed, plain = trained(TARGETS), trained(TARGETS, plain=["anger"])
    assert difference(weighed, plain, "anger") > 1e-3
    assert all(difference(weighed, plain, target) < 1e-10 for target in TARGETS if target != "anger")


def test_losses_differ() -> None:
    config = HeadsConfig.model_validate(CONFIG.model_dump() | {"loss": "huber"})
    assert difference(trained(TARGETS), trained(TARGETS, config=config), "anger") > 1e-3


def test_squared_errors_stop_experts_that_learn_by_them() -> None:
    """An epoch with a lower squared and a higher absolute error is better under mse alone."""
    config = HeadsConfig.model_validate(CONFIG.model_dump() | {"loss": "mse"})
    reports: list[Mapping[str, float]] = []
    module = trained(("anger",), config=config, reports=reports)
    absolute = [report["val_mae/anger"] for report in reports]
    assert module.stopping.best_errors[0] == pytest.approx(absolute[module.stopping.best_epochs[0]])
    bank = ExpertBank(InputSpec("flatten", "all", FRAMES, WIDTH), ("anger",), (4,), seed=0)
    stopping = ExpertStopping(bank, patience=5)
    metrics = EpochMetrics(("anger",), stopping, decides="rmse")
    figures = {"pearson": [0.0], "ccc": [0.0]}
    metrics.take(0, ("anger",), {"mae": [0.3], "rmse": [1.0], **figures})
    metrics.take(1, ("anger",), {"mae": [0.4], "rmse": [0.9], **figures})
    assert (stopping.best_epochs, stopping.best_errors) == ([1], [0.4])


def test_the_optimiser_is_gone_after_training_and_experts_are_ordinary_again() -> None:
    module = trained(TARGETS)
    assert module._optimiser is None
    bank = module.bank
    bank(next(iter(batches(0, TARGETS, "flatten", torch.float64))).features).sum().backward()
    assert bank.first.weight.grad is not None


@pytest.mark.parametrize("precision", ["mixed", "bf16"])
def test_lower_precisions_reach_nearly_the_same_error(precision: str) -> None:
    errors = []
    for each in ("float32", precision):
        config = HeadsConfig.model_validate(CONFIG.model_dump() | {"precision": each, "learning_rate": 3e-3})
        module = trained(TARGETS, dtype=torch.float32, config=config)
        errors.append(module.stopping.best_errors)
        kept = dict(module.bank.tensors(0))["proj.weight"].dtype
        assert kept == (torch.bfloat16 if each == "bf16" else torch.float32)
        module.bank.fold()
        assert all(tensor.dtype == torch.float32 for _, tensor in module.bank.tensors(0))
    assert errors[0] == pytest.approx(errors[1], rel=0.03)


def test_reports_have_every_targets_error_and_the_loss() -> None:
    reports: list[Mapping[str, float]] = []
    config = HeadsConfig.model_validate(CONFIG.model_dump() | {"epochs": 60, "learning_rate": 0.05})
    module = trained(TARGETS, reports=reports, config=config)
    assert set(reports[0]) == {"train_loss", "val_mae", "val_pearson", "val_ccc", *(f"val_mae/{t}" for t in TARGETS)}
    assert reports[-1]["train_loss"] < reports[0]["train_loss"]
    assert module.stopping.all_stopped
    assert len(reports) < config.epochs


@pytest.mark.parametrize("memory_gib", [1.0, 1e-9])
def test_weights_of_the_store_reach_the_loss(
    make_store: Callable[..., FeatureStore], memory_gib: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store's clips whose weight is 0 for fear: what they are scored is of no account."""
    store = make_store()
    targets = EMOTIONS.subset(["anger", "fear"]).ids
    column = targets.index("fear")
    weights = np.ones((len(store), 2), np.float32)
    weights[::2, column] = 0
    spec = InputSpec("statistics", "all", store.record.frames, store.record.width)

    def experts(**options: Any) -> ExpertBank:
        inputs = read_inputs(store, spec, memory_gib=memory_gib)
        data = ExpertsDataModule(inputs, targets, batch_size=32, seed=0, **options)
        if "spoiled" in changes:
            data.train.scores[data.train.rows % 2 == 0, column] = changes["spoiled"]
        bank = ExpertBank(spec, targets, (8,), seed=0, dropout=(0.0,))
        config = HeadsConfig(epochs=2, learning_rate=1e-2)
        trainer = Trainer(
            max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False,
            enable_model_summary=False, num_sanity_val_steps=0,
        )  # fmt: skip
        with quiet():
            trainer.fit(ExpertsModule(bank, config), data)
        return bank

    changes: dict[str, float] = {}
    plain, weighted = experts(), experts(weights=weights)
    changes["spoiled"] = 1000.0
    spoiled = experts(weights=weights)
    for (_, one), (_, two), (_, three) in zip(
        *(bank.tensors(column) for bank in (plain, weighted, spoiled)), strict=True
    ):
        assert not torch.equal(one, two)
        assert torch.equal(two, three)
    other = 1 - column
    for (_, one), (_, two) in zip(plain.tensors(other), weighted.tensors(other), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("form", ["flatten", "attention"])
def test_experts_that_have_stopped_are_left_out_and_nothing_else_changes(
    form: InputForm, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[list[Mapping[str, float]]] = [[], []]
    settings: dict[str, Any] = {"form": form, "dtype": torch.float32}
    kept = trained(TARGETS, reports=reports[0], **settings)
    monkeypatch.setattr("emonet.training.early_stopping.TOGETHER", 1)
    steps: list[int] = []
    step = ExpertsModule.training_step

    def counted(module: ExpertsModule, batch: Batch) -> None:
        steps.append(len(module.trained.targets))
        step(module, batch)

    monkeypatch.setattr(ExpertsModule, "training_step", counted)
    narrowed = trained(TARGETS, reports=reports[1], **settings)
    assert steps[0] == len(TARGETS)
    assert 0 < steps[-1] < len(TARGETS)
    assert narrowed.stopping.best_epochs == kept.stopping.best_epochs
    assert [list(metrics) for metrics in reports[0]] == [list(metrics) for metrics in reports[1]]
    for one, other in zip(*reports, strict=True):
        assert one["val_mae"] == pytest.approx(other["val_mae"], rel=1e-4)
    for expert in range(len(TARGETS)):
        for (_, mine), (_, theirs) in zip(narrowed.bank.tensors(expert), kept.bank.tensors(expert), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)
