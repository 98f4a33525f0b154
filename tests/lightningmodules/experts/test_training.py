from __future__ import annotations

import shutil
import weakref
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from cache.store import FeatureStore
from datamodules.expert_inputs import spec_of
from datamodules.experts import ExpertsDataModule
from emonet.clips import Split
from emonet.configs import HeadsConfig, InputForm
from emonet.errors import EmonetError, RequestError
from emonet.experts import ExpertBank, InputSpec, member_ids
from emonet.runtime import ignore
from emonet.targets import EMOTIONS, Classes, ClassLabels
from emonet.training import GIB, memory_plan, plan_training
from lightningmodules.experts import TrainedExperts, TrainingCallbacks, TrainingRequest, finished, train_experts
from lightningmodules.experts.fitting import FittedBank, fit_bank

pytestmark = pytest.mark.numeric

MakeStore = Callable[..., FeatureStore]
CONFIG = {"epochs": 4, "learning_rate": 3e-3, "batch_size": 32}
TARGETS = EMOTIONS.subset(["anger", "fear"]).ids
WIDE = (40_000,)  # an expert of 6 million weights: 96 MB in training


def train(
    store: FeatureStore,
    tmp_path: Path,
    form: InputForm = "flatten",
    *,
    targets: tuple[str, ...] = TARGETS,
    weights: np.ndarray | None = None,
    labels: ClassLabels | None = None,
    said: list[str] | None = None,
    epoch: Callable[[Mapping[str, float]], None] = lambda metrics: None,
    **changes: object,
) -> TrainedExperts:
    config = HeadsConfig.model_validate({"inputs": [form], **CONFIG, **changes})
    spec = spec_of(store, form, config)
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    watch = TrainingCallbacks(
        report=lambda metrics, number: epoch(metrics),
        show=lambda label, unit: nullcontext(ignore),
        say=[].append if said is None else said.append,
        scratch=scratch,
    )
    return train_experts(TrainingRequest(store, spec, targets, config, 0, weights, labels=labels), watch)


def test_experts_listen_to_the_layer_that_carries_their_target(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store(layered=True)
    rows = store.rows("test")
    trained = train(store, tmp_path, "statistics", layers="mix", frames="speech", epochs=12)
    assert set(trained.layer_mix) == set(TARGETS)
    for weights in trained.layer_mix.values():
        assert sum(weights) == pytest.approx(1)
        assert weights[1] == max(weights) > 0.5
    assert trained.spec.layers == 3
    bank = ExpertBank(trained.spec, trained.targets, trained.hidden, seed=None).eval()
    for position, tensors in enumerate(trained.experts()):  # folded: nothing tells them from experts on all layers
        for key, tensor in bank.tensors(position):
            tensor.copy_(tensors.pop(key))
        assert not tensors
    features = trained.spec.prepare(
        torch.from_numpy(store.read(rows)), torch.from_numpy(store.speech_frames(rows)), pooled=True
    )
    with torch.inference_mode():
        np.testing.assert_allclose(bank(features).numpy(), trained.predictions["test"], atol=1e-4)


def test_a_layer_mix_that_cannot_be_is_refused(make_store: MakeStore, tmp_path: Path) -> None:
    several, single = make_store(layered=True), make_store()
    for form in ("flatten", "attention"):
        with pytest.raises(RequestError, match=f"(?s)only statistics of layers can be mixed.*--heads.inputs {form}"):
            train(several, tmp_path, form, layers="mix", frames="speech")
    with pytest.raises(RequestError, match=r"(?s)single layer: there is nothing to mix.*the encoder's last layer"):
        train(single, tmp_path, "statistics", layers="mix")
    assert train(several, tmp_path, "statistics", layers=[4], frames="speech", epochs=1).layer_mix == {}


@pytest.mark.parametrize(
    ("form", "layers"),
    [
        pytest.param("statistics", "all", marks=pytest.mark.slow),
        pytest.param("statistics", "mix", marks=pytest.mark.slow),
        ("moments", "mix"),
        pytest.param("flatten", "all", marks=pytest.mark.slow),
    ],
)
def test_an_ensemble_holds_the_single_expert_and_others_and_means_them(
    make_store: MakeStore, tmp_path: Path, form: InputForm, layers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    members: list[np.ndarray] = []
    fit = FittedBank.predict

    def watched(self: FittedBank, split: Split) -> np.ndarray:
        members.append(fit(self, split))
        return members[-1]

    layered = layers == "mix"
    store, changes = make_store(layered=layered), {"layers": layers, "frames": "speech" if layered else "all"}
    weights = np.random.default_rng(0).uniform(0.5, 1, (len(store), 2)).astype(np.float32)
    single = train(store, tmp_path, form, weights=weights, **changes)
    monkeypatch.setattr(FittedBank, "predict", watched)
    ensemble = train(store, tmp_path, form, weights=weights, ensemble=3, **changes)
    validation, test = members
    assert validation.shape == (40, 6)
    # The same start, dropout and batches: only the order of sums may be another one.
    np.testing.assert_allclose(test[:, ::3], single.predictions["test"], atol=1e-5)
    assert [ensemble.best_epoch[target] for target in TARGETS] == [single.best_epoch[target] for target in TARGETS]
    assert set(ensemble.best_epoch) == {"anger", "anger.2", "anger.3", "fear", "fear.2", "fear.3"}
    assert set(ensemble.layer_mix) == (set(ensemble.best_epoch) if layered else set())
    by_target = test.reshape(40, 2, 3)
    np.testing.assert_allclose(ensemble.predictions["test"], by_target.mean(2), rtol=1e-6)
    np.testing.assert_allclose(ensemble.spread["test"], by_target.std(2, ddof=1), rtol=1e-5)
    assert ensemble.spread["validation"].shape == (40, 2)
    assert (ensemble.spread["test"] > 1e-3).all(), "members differ"
    assert single.spread == {}
    truth = store.scores(store.rows("validation"))[:, [store.targets.index(target) for target in TARGETS]]
    errors = np.abs(ensemble.predictions["validation"] - truth).mean(0)
    assert list(ensemble.validation_mae.values()) == pytest.approx(errors.tolist())
    assert len(list(ensemble.experts())) == 6


def test_members_start_bit_for_bit_as_alone() -> None:
    spec, names = InputSpec("statistics", "all", 5, 6), member_ids(["fear", "anger"], 2)
    assert names == ("fear", "fear.2", "anger", "anger.2")
    bank, alone = (ExpertBank(spec, each, (8, 4), seed=3).train() for each in (names, ["anger"]))
    for (_, mine), (_, theirs) in zip(bank.tensors(2), alone.tensors(0), strict=True):
        assert torch.equal(mine, theirs)
    masks = [one.dropout(7, torch.zeros(())) for one in (bank, alone)]
    assert all(torch.equal(mine[2], theirs[0]) for mine, theirs in zip(*masks, strict=True) if mine is not None)
    assert not torch.equal(dict(bank.tensors(2))["proj.weight"], dict(bank.tensors(3))["proj.weight"])


@pytest.mark.slow
@pytest.mark.usefixtures("steady_process")
def test_members_of_an_ensemble_are_trained_in_groups_too(make_store: MakeStore, tmp_path: Path) -> None:
    store, said = make_store(missing=True), list[str]()
    changes = {"hidden": WIDE, "epochs": 1, "standardise": False, "ensemble": 2}
    reports: list[Mapping[str, float]] = []
    together = train(store, tmp_path, **changes)
    grouped = train(store, tmp_path, memory=memory_for(store, 2.6), said=said, epoch=reports.append, **changes)
    assert "4 experts in 2 groups of up to 2" in said[0]
    assert [sorted(metrics) for metrics in reports] == [[f"val_mae/{target}"] for target in TARGETS]
    np.testing.assert_allclose(grouped.predictions["test"], together.predictions["test"], atol=1e-3)
    np.testing.assert_allclose(grouped.spread["test"], together.spread["test"], atol=1e-3)


def scores_of(trained: TrainedExperts, store: FeatureStore) -> np.ndarray:
    """Test scores by the experts as they are written, on raw states."""
    bank = ExpertBank(trained.spec, trained.targets, trained.hidden, seed=None).eval()
    for position, tensors in enumerate(trained.experts()):
        for key, tensor in bank.tensors(position):
            tensor.copy_(tensors[key])
    rows = store.rows("test")
    heard = torch.from_numpy(store.speech_frames(rows))
    with torch.inference_mode():
        return bank(trained.spec.prepare(torch.from_numpy(store.read(rows)), heard)).numpy()


@pytest.fixture
def steady_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the process takes anyway may fall by more than an expert between `memory_for` and the training."""
    monkeypatch.setattr(memory_plan, "resident_bytes", lambda: GIB)


def memory_for(store: FeatureStore, experts: float, **options: object) -> float:
    """Memory (GiB) in which so many experts of `WIDE` fit."""
    plan = plan_training(
        InputSpec("flatten", "all", store.record.frames, store.record.width), WIDE, 2, batch_size=32, clips=200,
        states_bytes=GIB, memory_bytes=1000 * GIB, **options,
    )  # fmt: skip
    return (plan.fixed_bytes + experts * plan.bytes_per_expert) / GIB


@pytest.mark.slow
@pytest.mark.usefixtures("steady_process")
def test_groups_give_the_same_experts_as_all_at_once(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store(missing=True)
    said: list[str] = []
    reports: list[Mapping[str, float]] = []
    changes = {"hidden": WIDE, "epochs": 2, "standardise": False}
    together = train(store, tmp_path, said=said, **changes)
    assert said.pop().endswith("GiB of memory")
    grouped = train(store, tmp_path, memory=memory_for(store, 1.6), said=said, epoch=reports.append, **changes)
    assert "2 experts in 2 groups of up to 1, float32, states in memory" in said[0]
    assert [sorted(metrics) for metrics in reports] == [[f"val_mae/{target}"] for target in TARGETS for _ in range(2)]
    assert grouped.validation_mae == pytest.approx(together.validation_mae, abs=1e-3)
    assert grouped.best_epoch == together.best_epoch
    # Sums over 40,000 hidden values, in products of one expert or of two, of 32 clips or of 40: 2^-24 * 40,000^0.5 each.
    np.testing.assert_allclose(grouped.predictions["test"], together.predictions["test"], atol=1e-3)
    np.testing.assert_allclose(scores_of(grouped, store), grouped.predictions["test"], atol=1e-4)


@pytest.mark.parametrize(("apart", "told"), [("fear", True), ("awe", False)])
@pytest.mark.slow
@pytest.mark.usefixtures("steady_process")
def test_ua_is_told_where_one_group_has_all_classes(
    make_store: MakeStore, tmp_path: Path, apart: str, told: bool
) -> None:
    """Of three experts, two fit into memory together: those of anger and fear."""
    store, reports = make_store(like_anger=["awe"]), list[Mapping[str, float]]()
    labels = ClassLabels(Classes({"anger": "a", apart: "b"}, {"a": 0, "b": 1}), np.arange(len(store)) % 2)
    changes = {"hidden": WIDE, "epochs": 1, "memory": memory_for(store, 2.6), "standardise": False}
    train(store, tmp_path, targets=("anger", "fear", "awe"), labels=labels, epoch=reports.append, **changes)
    ours = {"val_ua"} if told else set()
    assert [set(metrics) for metrics in reports] == [{"val_mae/anger", "val_mae/fear"} | ours, {"val_mae/awe"}]


@pytest.mark.usefixtures("steady_process")
def test_memory_for_less_than_one_expert_is_refused(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    with pytest.raises(RequestError, match=r"(?s)not enough memory.*--heads\.precision bf16"):
        train(store, tmp_path, hidden=WIDE, memory=memory_for(store, 0.5))


@pytest.mark.slow
def test_when_memory_runs_out_groups_are_halved(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short_of_memory(data: ExpertsDataModule, *arguments: object, **options: object) -> FittedBank:
        if len(data.targets) > 1:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ...")
        return fit_bank(data, *arguments, **options)  # type: ignore[arg-type]

    store, said = make_store(), []
    together = train(store, tmp_path)
    monkeypatch.setattr(finished, "fit_bank", short_of_memory)
    halved = train(store, tmp_path, said=said)
    assert "memory ran out; going on with 2 experts in 2 groups of up to 1" in said[1]
    # After 28 steps with products of one expert or of two.
    np.testing.assert_allclose(halved.predictions["test"], together.predictions["test"], atol=1e-3)


@pytest.mark.slow
def test_a_group_whose_tensors_do_not_fit_is_noted_once(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, raised = make_store(), []
    together = train(store, tmp_path)
    original = ExpertBank.tensors

    def short_of_memory(bank: ExpertBank, position: int) -> object:
        if raised == [None] and position == 1:  # the training is over, and the first expert was noted
            raised.append(position)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(bank, position)

    def fit(*arguments: object, **options: object) -> FittedBank:
        fitted = fit_bank(*arguments, **options)  # type: ignore[arg-type]
        raised.append(None)
        return fitted

    monkeypatch.setattr(ExpertBank, "tensors", short_of_memory)
    monkeypatch.setattr(finished, "fit_bank", fit)
    again = train(store, tmp_path)
    monkeypatch.undo()
    assert raised == [None, 1, None, None], "once together, then one by one"
    assert again.predictions["test"].shape == together.predictions["test"].shape
    np.testing.assert_allclose(again.predictions["test"], together.predictions["test"], atol=1e-4)
    np.testing.assert_allclose(scores_of(again, store), scores_of(together, store), atol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("steady_process")
def test_a_group_that_is_done_leaves_memory(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    banks: list[weakref.ref[ExpertBank]] = []
    alive: list[int] = []

    def watched(data: ExpertsDataModule, *arguments: object, **options: object) -> FittedBank:
        alive.append(sum(bank() is not None for bank in banks))
        fitted = fit_bank(data, *arguments, **options)  # type: ignore[arg-type]
        banks.append(weakref.ref(fitted.bank))
        return fitted

    store = make_store()
    monkeypatch.setattr(finished, "fit_bank", watched)
    train(store, tmp_path, hidden=WIDE, epochs=1, memory=memory_for(store, 1.6))
    assert alive == [0, 0]


def test_a_store_that_changes_while_experts_are_lifted_is_noticed(make_store: MakeStore, tmp_path: Path) -> None:
    store, other = make_store(clips=(20, 5, 5)), make_store(clips=(20, 5, 5), seed=1)
    experts = train(store, tmp_path, features="principal").experts()
    next(experts)
    shutil.rmtree(store.path)
    other.path.rename(store.path)
    with pytest.raises(EmonetError, match="the store changed while it was read"):
        list(experts)


def test_what_is_no_lack_of_memory_is_raised(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **options: object) -> FittedBank:
        raise RuntimeError("something else")

    monkeypatch.setattr(finished, "fit_bank", broken)
    with pytest.raises(RuntimeError, match="something else"):
        train(make_store(), tmp_path)


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.slow
def test_experts_in_coordinates_are_lifted_to_states(make_store: MakeStore, tmp_path: Path, standardise: bool) -> None:
    store, said = make_store(clips=(60, 20, 20)), []
    trained = train(store, tmp_path, features="principal", standardise=standardise, said=said, epochs=20)
    assert trained.spec.features == 150
    assert trained.energy == pytest.approx(1.0, abs=1e-4)
    assert "59 principal coordinates hold 100.00 % of the energy" in said[0]
    predicted = trained.predictions["test"]
    # Coordinates, lifted weights and products of raw states are each rounded to float32.
    assert np.abs(scores_of(trained, store) - predicted).max() <= 5e-3 * predicted.std()
    few = train(store, tmp_path, features="principal", standardise=standardise, rank=5)
    assert few.energy is not None
    assert 0 < few.energy < 0.9
    assert (store.path / "principal").is_dir()


def test_coordinates_are_for_flattened_states_only(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    trained = train(store, tmp_path, "statistics", features="principal")
    assert trained.energy is None
    assert not (store.path / "principal").exists()


@pytest.mark.slow
def test_a_score_that_weighs_nothing_is_as_good_as_missing(make_store: MakeStore, tmp_path: Path) -> None:
    whole, missing = make_store(), make_store(missing=True)
    weights = np.ones((len(whole), 2), np.float32)
    weights[np.isnan(missing.scores(range(len(missing)))[:, EMOTIONS.index("fear")]), TARGETS.index("fear")] = 0
    assert 0 < weights.mean() < 1
    weighed, other = (train(store, tmp_path, weights=w) for store, w in ((whole, weights), (missing, None)))
    np.testing.assert_allclose(weighed.predictions["test"], other.predictions["test"], atol=1e-5)


def test_a_store_that_changes_underneath_is_noticed(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    other = make_store(seed=1)

    def swap(metrics: Mapping[str, float]) -> None:
        if other.path.exists():
            shutil.rmtree(store.path)
            other.path.rename(store.path)

    with pytest.raises(EmonetError, match="the store changed while it was read"):
        train(store, tmp_path, epoch=swap)


@pytest.mark.parametrize("clips", [(3, 2, 2), (1, 1, 1)])
def test_fewer_clips_than_a_batch(make_store: MakeStore, tmp_path: Path, clips: tuple[int, int, int]) -> None:
    assert train(make_store(clips=clips), tmp_path).predictions["test"].shape == (clips[2], 2)


def test_one_training_clip_has_no_coordinates(make_store: MakeStore, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="principal coordinates need at least two training clips"):
        train(make_store(clips=(1, 1, 1)), tmp_path, features="principal")


@pytest.mark.parametrize(
    "loss", ["mae", *(pytest.param(loss, marks=pytest.mark.slow) for loss in ("huber", "mse", "ccc"))]
)
def test_every_loss_learns(make_store: MakeStore, tmp_path: Path, loss: str) -> None:
    store = make_store()
    trained = train(store, tmp_path, "statistics", loss=loss, epochs=30, dropout=(0.0,))
    truth = store.scores(store.rows("test"))[:, EMOTIONS.index("anger")]
    predicted = trained.predictions["test"][:, TARGETS.index("anger")]
    assert np.corrcoef(truth, predicted)[0, 1] > 0.9


@pytest.mark.parametrize("precision", ["mixed", "bf16"])
@pytest.mark.slow
def test_lower_precision_comes_near(make_store: MakeStore, tmp_path: Path, precision: str) -> None:
    store = make_store()
    exact, rounded = (train(store, tmp_path, precision=p, epochs=8) for p in ("float32", precision))
    for target in TARGETS:
        assert rounded.validation_mae[target] == pytest.approx(exact.validation_mae[target], abs=0.15)
    np.testing.assert_allclose(scores_of(rounded, store), rounded.predictions["test"], atol=1e-4)  # batches differ
