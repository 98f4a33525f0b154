from __future__ import annotations

import signal
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch

from cache.store import FeatureStore
from datamodules.expert_inputs import read_inputs
from datamodules.experts import ExpertsDataModule
from emonet.configs import EvaluationConfig, HeadsConfig, InputForm
from emonet.errors import EmonetError
from emonet.evaluation import class_metrics, confusion, evaluate
from emonet.experts import InputSpec
from emonet.targets import EMOTIONS, NO_CLASS, Classes, ClassLabels, Target, TargetSpec
from lightningmodules.experts.fitting import FittedBank, fit_bank

pytestmark = pytest.mark.numeric

CONFIG = {"epochs": 30, "learning_rate": 3e-3, "batch_size": 32, "dropout": (0.0, 0.0, 0.0, 0.0)}
TARGETS = EMOTIONS.subset(["anger", "fear"]).ids

Seen = list[tuple[int, int, str]]


def fit(
    store: FeatureStore,
    form: InputForm = "statistics",
    *,
    targets: tuple[str, ...] = TARGETS,
    seed: int = 0,
    reports: list[Mapping[str, float]] | None = None,
    seen: Seen | None = None,
    memory_gib: float = 4.0,
    labels: ClassLabels | None = None,
    **changes: object,
) -> FittedBank:
    def progress(completed: int, total: int, note: str = "") -> None:
        if seen is not None:
            seen.append((completed, total, note))

    def report(metrics: Mapping[str, float], epoch: int) -> None:
        if reports is not None:
            assert epoch == len(reports)
            reports.append(metrics)

    config = HeadsConfig.model_validate({**CONFIG, **changes})
    spec = InputSpec(form, "all", store.record.frames, store.record.width)
    inputs = read_inputs(store, spec, memory_gib=memory_gib)
    data = ExpertsDataModule(inputs, targets, batch_size=config.batch_size, seed=seed, labels=labels)
    scaling = inputs.scaling if config.standardise else None
    return fit_bank(data, config, seed=seed, scaling=scaling, report=report, progress=progress)


def error_of(fitted: FittedBank, store: FeatureStore, split: str) -> np.ndarray:
    columns = [EMOTIONS.index(target) for target in fitted.bank.targets]
    return np.abs(fitted.predict(split) - store.scores(store.rows(split))[:, columns]).mean(0)


@pytest.mark.parametrize("form", ["flatten", "statistics", "attention"])
def test_experts_learn_and_are_restored_to_their_best(make_store: Callable[..., FeatureStore], form: InputForm) -> None:
    store = make_store()
    reports: list[Mapping[str, float]] = []
    fitted = fit(store, form, reports=reports, patience=30)
    assert fitted.bank.shift is None, "folded"
    assert not fitted.bank.training
    validation = dict(zip(fitted.bank.targets, error_of(fitted, store, "validation"), strict=True))
    for target in TARGETS:
        by_epoch = [metrics[f"val_mae/{target}"] for metrics in reports]
        assert fitted.validation_mae[target] == min(by_epoch)
        assert fitted.best_epoch[target] == int(np.argmin(by_epoch))
        assert validation[target] == pytest.approx(min(by_epoch), abs=1e-3), "restored, folded and still the same"
    limit = 1.15 if form == "flatten" else 0.8  # 1.2 for the median; flatten hears a deviation only after many clips
    assert error_of(fitted, store, "test")[list(fitted.bank.targets).index("anger")] < 0.6
    assert error_of(fitted, store, "test").mean() < limit


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "mixed", "bf16"])
def test_a_gpu_gives_back_the_best_experts(make_store: Callable[..., FeatureStore], precision: str) -> None:
    store = make_store()
    reports: list[Mapping[str, float]] = []
    fitted = fit(store, "flatten", reports=reports, patience=30, precision=precision)
    assert {weights.device.type for weights in fitted.bank.parameters()} == {"cpu"}
    found = dict(zip(fitted.bank.targets, error_of(fitted, store, "validation"), strict=True))
    for target in TARGETS:
        least = min(metrics[f"val_mae/{target}"] for metrics in reports)
        assert fitted.validation_mae[target] == least < reports[0][f"val_mae/{target}"]
        assert found[target] == pytest.approx(least, abs=1e-3 if precision == "float32" else 0.02)


@pytest.mark.slow
def test_experts_learn_on_any_scale(make_store: Callable[..., FeatureStore]) -> None:
    """In the same steps, and as well: a scale 100 times as wide, one that is narrow, and far from 0."""
    wide, narrow = Target("anger", "Anger", 200, 600, ""), Target("fear", "Fear", -1, -0.9, "")
    store = make_store(targets=TargetSpec((wide, narrow)))
    fitted = fit(store, targets=("anger", "fear"))
    assert fitted.bank.unit is None, "folded"
    errors = np.abs(fitted.predict("test") - store.scores(store.rows("test"))).mean(0)
    shares = errors / [wide.high - wide.low, narrow.high - narrow.low]
    usual = error_of(fit(make_store(), targets=("anger", "fear")), make_store(), "test") / 4
    assert shares == pytest.approx(usual, abs=0.05)
    assert shares[0] < 0.15
    alone = fit(store, targets=("fear",))
    assert np.allclose(alone.predict("test")[:, 0], fitted.predict("test")[:, 1], rtol=1e-3)


def test_an_epochs_figures_are_those_of_the_evaluation(make_store: Callable[..., FeatureStore]) -> None:
    store = make_store()
    reports: list[Mapping[str, float]] = []
    fitted = fit(store, reports=reports, epochs=1, standardise=False)
    rows, columns = store.rows("validation"), [EMOTIONS.index(target) for target in TARGETS]
    found = evaluate(
        store.scores(rows)[:, columns], fitted.predict("validation"), targets=TARGETS, speakers=["s"] * len(rows),
        config=EvaluationConfig(resamples=1),
    )  # fmt: skip
    for name in ("mae", "pearson", "ccc"):
        assert reports[0][f"val_{name}"] == pytest.approx(found.of(name).mean.value, abs=1e-5), name
    errors = {f"val_mae/{target}": estimate.value for target, estimate in found.mae.per_target.items()}
    assert {key: value for key, value in reports[0].items() if "/" in key} == pytest.approx(errors, abs=1e-5)


@pytest.mark.parametrize("together", [1, 16])
def test_an_epochs_ua_is_that_of_the_evaluation(
    make_store: Callable[..., FeatureStore], monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    """After one epoch, and once all experts have stopped, whether or not they were left out when they had."""
    monkeypatch.setattr("emonet.training.early_stopping.TOGETHER", together)
    wide, narrow = (Target(name, name.title(), *ends, "some") for name, ends in (("anger", (0, 4)), ("fear", (-1, 0))))
    store = make_store(targets=TargetSpec((wide, narrow)))
    classes = Classes({"fear": "afraid", "anger": "angry"}, {"afraid": 0, "angry": 1})
    shares = (store.scores(range(len(store))) - [0, -1]) / [4, 1]
    labels = ClassLabels(classes, np.where(shares[:, 0] == shares[:, 1], NO_CLASS, shares.argmin(1)))
    rows = store.rows("validation")
    for changes in ({"epochs": 1}, {"epochs": 200, "patience": 2, "learning_rate": 0.02}):
        reports: list[Mapping[str, float]] = []
        fitted = fit(store, targets=store.targets.ids, reports=reports, labels=labels, standardise=False, **changes)
        predicted = classes.predicted(fitted.predict("validation"), store.targets)
        metrics = class_metrics(confusion(labels.given[rows], predicted, 2)[None])[1]
        assert reports[-1]["val_ua"] == pytest.approx(metrics["ua"][0])
        assert all(0 <= metrics["val_ua"] <= 1 for metrics in reports)
    assert len(reports) < 200, "all have stopped"
    assert len(set(fitted.best_epoch.values())) == 2, "not in the same epoch"
    assert reports[-1]["val_ua"] > 0.7


def test_classes_change_nothing_else(make_store: Callable[..., FeatureStore]) -> None:
    store = make_store()
    classes = Classes({"anger": "a", "fear": "f"}, {"a": 0, "f": 1})
    told: list[list[Mapping[str, float]]] = [[], []]
    plain = fit(store, epochs=2, reports=told[0])
    labelled = fit(store, epochs=2, reports=told[1], labels=ClassLabels(classes, np.full(len(store), NO_CLASS)))
    assert told[0] == told[1], "no clip has a class"
    assert np.array_equal(plain.predict("test"), labelled.predict("test"))
    assert "val_ua" not in told[0][0]


def test_the_same_seed_gives_the_same_experts(make_store: Callable[..., FeatureStore]) -> None:
    store = make_store(missing=True)
    changes = {"epochs": 3, "dropout": (0.0, 0.1, 0.1, 0.1)}
    first, second, other = (fit(store, seed=seed, **changes).predict("test") for seed in (5, 5, 6))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_an_expert_does_not_depend_on_its_company(make_store: Callable[..., FeatureStore]) -> None:
    store = make_store(missing=True)
    both = fit(store, epochs=8)
    position = both.bank.targets.index("anger")
    alone = fit(store, targets=("anger",), epochs=8)
    np.testing.assert_allclose(alone.predict("test")[:, 0], both.predict("test")[:, position], atol=1e-3)
    assert alone.best_epoch["anger"] == both.best_epoch["anger"]


def test_training_stops_when_all_have_lost_patience(make_store: Callable[..., FeatureStore]) -> None:
    reports: list[Mapping[str, float]] = []
    seen: Seen = []
    fit(make_store(), learning_rate=1.0, patience=2, epochs=50, reports=reports, seen=seen)
    assert len(reports) < 50
    steps = seen[0][1] // 50
    assert steps > 1
    assert seen[:2] == [(0, 50 * steps, ""), (1, 50 * steps, "epoch 1 of 50")], (
        "so that the first says how long it takes"
    )
    assert seen[steps + 1] == (steps + 1, 50 * steps, "epoch 2 of 50")
    assert seen[-1][:2] == (50 * steps, 50 * steps)


def test_the_global_random_state_is_left_alone(make_store: Callable[..., FeatureStore]) -> None:
    torch.manual_seed(7)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    fit(make_store(), epochs=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_without_standardisation_nothing_is_folded(make_store: Callable[..., FeatureStore]) -> None:
    fitted = fit(make_store(), epochs=2, standardise=False)
    assert fitted.bank.shift is None


class Interrupting(list[Mapping[str, float]]):
    """Ctrl-C after the second epoch."""

    def append(self, metrics: Mapping[str, float]) -> None:
        super().append(metrics)
        if len(self) == 2:
            raise KeyboardInterrupt


def test_an_interrupt_stays_an_interrupt(make_store: Callable[..., FeatureStore]) -> None:
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(make_store(), reports=Interrupting())
    assert signal.getsignal(signal.SIGINT) is handler


def test_experts_that_diverge_say_what_to_type(make_store: Callable[..., FeatureStore]) -> None:
    with pytest.raises(EmonetError, match=r"(?s)training diverged.*anger.*--heads\.learning-rate 1e\+29"):
        fit(make_store(), learning_rate=1e30, epochs=2)


@pytest.mark.slow
def test_states_beyond_the_memory_are_read_in_each_epoch(make_store: Callable[..., FeatureStore]) -> None:
    store = make_store()
    kept, *streamed = (fit(store, memory_gib=memory) for memory in (4.0, 1e-9, 1e-9))
    np.testing.assert_array_equal(streamed[0].predict("test"), streamed[1].predict("test"))
    assert (error_of(streamed[0], store, "test") < error_of(kept, store, "test") + 0.2).all()
