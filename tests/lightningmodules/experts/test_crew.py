from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cache.loading import SharedReading
from cache.store import FeatureStore
from datamodules.expert_inputs import spec_of
from emonet.configs import HeadsConfig
from emonet.errors import EmonetError, RequestError
from emonet.runtime import Child, ignore
from emonet.targets import EMOTIONS
from emonet.training import TrainingPlan, plan_training
from lightningmodules.experts import TrainedExperts, TrainingCallbacks, TrainingRequest, crew, train_experts, training

pytestmark = [pytest.mark.numeric, pytest.mark.slow]

MakeStore = Callable[..., FeatureStore]
TARGETS = EMOTIONS.subset(["anger", "fear", "awe", "pride"]).ids
STREAMED = 3e-5  # GiB: of 200 clips of 300 bytes, two pools of one batch


@pytest.fixture
def store(make_store: MakeStore) -> FeatureStore:
    return make_store(like_anger=["awe", "pride"])


def train(
    store: FeatureStore,
    tmp_path: Path,
    *devices: str,
    said: list[str] | None = None,
    progress: Callable[..., None] = ignore,
    report: Callable[[Mapping[str, float], int], None] = ignore,
    planned: Callable[[TrainingPlan], None] = ignore,
    **changes: object,
) -> TrainedExperts:
    known = {"epochs": 3, "learning_rate": 3e-3, "batch_size": 32, "devices": devices, **changes}
    config = HeadsConfig.model_validate(known)
    scratch = tmp_path / f"scratch-{len(devices)}"
    scratch.mkdir(exist_ok=True)
    watch = TrainingCallbacks(
        report,
        lambda label, unit: nullcontext(progress if label.startswith("training") else ignore),
        scratch,
        [].append if said is None else said.append,
        planned,
    )
    spec = spec_of(store, config.inputs[0], config)
    return train_experts(TrainingRequest(store, spec, TARGETS, config, 0), watch)


@pytest.fixture
def in_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two groups in a single process, too, as on two devices."""

    def plan(*arguments: object, devices: int, **options: object) -> TrainingPlan:
        return replace(plan_training(*arguments, devices=2, **options), devices=devices)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "plan_training", plan)


def same(one: TrainedExperts, other: TrainedExperts) -> None:
    assert one.validation_mae == other.validation_mae
    assert one.best_epoch == other.best_epoch
    for split, predictions in one.predictions.items():
        np.testing.assert_array_equal(predictions, other.predictions[split])
    for mine, theirs in zip(one.experts(), other.experts(), strict=True):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())


@pytest.mark.parametrize(
    "changes",
    [
        {"states_gib": STREAMED},
        {},
        {"inputs": ["statistics"], "precision": "bf16", "states_gib": 1e-6},
        {"features": "principal"},
    ],
    ids=["streamed", "in memory", "statistics", "coordinates"],
)
@pytest.mark.usefixtures("in_pairs")
def test_two_processes_give_bit_for_bit_what_one_gives(
    store: FeatureStore, tmp_path: Path, changes: Mapping[str, object]
) -> None:
    said: list[str] = []
    reports: list[tuple[str, ...]] = []
    steps: list[tuple[int, int]] = []
    alone = train(store, tmp_path, **changes)
    spread = train(
        store, tmp_path, "cpu", "cpu",
        said=said,
        progress=lambda done, total, note="": steps.append((done, total)),
        report=lambda metrics, epoch: reports.append(tuple(metrics)),
        **changes,
    )  # fmt: skip
    same(alone, spread)
    assert "4 experts in 2 groups of up to 2, 2 at a time" in said[-1]
    assert ("reads the store once" in said[-1]) == ("states_gib" in changes)
    assert len(reports) == 6
    assert {name for names in reports for name in names} == {f"val_mae/{target}" for target in TARGETS}
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert steps[-1][0] == steps[-1][1]


def test_one_read_feeds_all_groups_that_are_trained_at_the_same_time(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    leave = SharedReading.__exit__

    def counted(self: SharedReading, *error: object) -> None:
        leave(self, *error)
        read.append(self.pools)

    monkeypatch.setattr(SharedReading, "__exit__", counted)
    train(store, tmp_path, "cpu", "cpu", states_gib=STREAMED, patience=9)
    # Three epochs of 160 training and 40 validation clips in pools of 32, and no more than what is read ahead.
    (pools,) = read
    each = 5 + 2
    assert 3 * each <= pools <= 3 * each + 2


def test_the_group_of_a_process_that_dies_is_done_again(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    children: list[Child] = []
    start = Child.started

    def noted(self: Child, patience: float) -> None:
        start(self, patience)
        children.append(self)

    def kill(metrics: Mapping[str, float], epoch: int) -> None:
        if len(children) == 2 and epoch == 1 and "val_mae/fear" in metrics:
            os.kill(children.pop().id, signal.SIGKILL)

    monkeypatch.setattr(Child, "started", noted)
    for changes in ({"states_gib": STREAMED}, {}):
        said: list[str] = []
        undisturbed = train(store, tmp_path, "cpu", "cpu", **changes)
        children.clear()
        # Two groups: anger and fear, awe and pride; either process may have either, the last one is killed.
        disturbed = train(store, tmp_path, "cpu", "cpu", said=said, report=kill, **changes)
        assert len(children) == 1
        assert "signal 9, SIGKILL" in said[-1]
        assert "are trained again on another" in said[-1]
        same(undisturbed, disturbed)


def test_when_all_processes_die_the_reason_is_told(store: FeatureStore, tmp_path: Path) -> None:
    def kill_all(metrics: Mapping[str, float], epoch: int) -> None:
        for child in children:
            os.kill(child, signal.SIGKILL)

    children = Children()
    with pytest.raises(EmonetError, match=r"(?s)all processes that train experts have ended.*SIGKILL.*--heads\.memory"):
        train(store, tmp_path, "cpu", "cpu", report=kill_all)


class Children:
    """Processes that this one has started, as they are when asked."""

    def __iter__(self):  # type: ignore[no-untyped-def]
        tasks = Path(f"/proc/{os.getpid()}/task").glob("*/children")
        return iter([int(child) for task in tasks for child in task.read_text().split()])


def test_memory_that_runs_out_halves_groups(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = tmp_path / "limited_worker.py"
    limited.write_text(
        "from lightningmodules.experts import finished, worker\n"
        "fit = finished.fit_bank\n"
        "def short(data, *arguments, **options):\n"
        "    if len(data.targets) > 1:\n"
        '        raise RuntimeError("DefaultCPUAllocator: can\'t allocate memory: you tried ...")\n'
        "    return fit(data, *arguments, **options)\n"
        "def serve():\n"
        "    finished.fit_bank = short\n"
        "    worker.serve()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(crew, "ENTRY", "limited_worker:serve")
    monkeypatch.setattr(
        training,
        "plan_training",
        lambda *wanted, **options: replace(plan_training(*wanted, **options), groups=(2,) * 4),
    )
    for changes in ({"states_gib": STREAMED}, {}):
        said: list[str] = []
        planned: list[TrainingPlan] = []
        trained = train(store, tmp_path, "cpu", "cpu", said=said, planned=planned.append, ensemble=2, **changes)
        first, second, *others = [plan.groups for plan in planned]
        assert first == (2, 2, 2, 2)
        assert second in {(1, 1, 2, 1, 1, 1, 1), (2, 1, 1, 1, 1, 1, 1)}, "the other one has begun"
        assert others == [(1,) * 8]
        assert "memory ran out on cpu; going on with 8 experts in 8 groups of up to 1, 2 at a time" in said[-1]
        assert set(trained.validation_mae) == set(TARGETS)
        assert trained.predictions["test"].shape == (40, 4)


@pytest.mark.parametrize("changes", [{"states_gib": STREAMED}, {}], ids=["streamed", "in memory"])
@pytest.mark.usefixtures("in_pairs")
def test_a_process_that_cannot_start_is_done_without(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: Mapping[str, object]
) -> None:
    alone = train(store, tmp_path, **changes)
    (tmp_path / "one_worker.py").write_text(
        "from pathlib import Path\n"
        "from lightningmodules.experts import worker\n"
        "serve = worker.serve\n"
        'Path(__file__).with_name("the driver has one place").touch(exist_ok=False)\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(crew, "ENTRY", "one_worker:serve")
    said: list[str] = []
    same(alone, train(store, tmp_path, "cpu", "cpu", said=said, **changes))
    assert "nothing is trained on cpu: a process of our own cannot start" in said[-1]
    assert "the driver has one place" in said[-1]
    with pytest.raises(EmonetError, match="all processes that train experts have ended"):
        train(store, tmp_path, "cpu", "cpu", said=said, **changes)


def test_a_device_that_is_not_there_is_refused(store: FeatureStore, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"(?s)no such device.*found: *cuda:77"):
        train(store, tmp_path, "cpu", "cuda:77")


def test_a_damaged_store_is_told_by_whoever_reads(store: FeatureStore, tmp_path: Path) -> None:
    (store.path / "states/c/1/0/0").write_bytes(b"nothing")
    with pytest.raises(EmonetError, match="states"):
        train(store, tmp_path, "cpu", "cpu", states_gib=STREAMED, standardise=False)
