from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache.principal import basis_files as derived
from cache.store import FeatureStore
from datamodules.expert_inputs import divided_inputs, read_all
from emonet.configs import HeadsConfig, InputForm
from emonet.experts import InputSpec
from emonet.runtime import ignore
from emonet.targets import EMOTIONS
from lightningmodules.experts import KeptInputs, TrainedExperts, TrainingCallbacks, TrainingRequest, train_experts

pytestmark = pytest.mark.numeric

TARGETS = EMOTIONS.subset(["anger", "fear"]).ids
MakeStore = Callable[..., FeatureStore]
SETTINGS: list[tuple[InputForm, dict[str, Any]]] = [
    ("statistics", {}),
    ("statistics", {"batch_size": 64, "hidden": (8,)}),
    ("attention", {}),
    ("flatten", {"features": "principal", "rank": 5}),
    ("flatten", {"features": "principal", "rank": 0.5, "learning_rate": 1e-3}),
    ("flatten", {"features": "principal"}),
]


def train(
    store: FeatureStore, folder: Path, form: InputForm, changes: dict[str, Any], kept: KeptInputs | None
) -> TrainedExperts:
    spec = InputSpec(form, "all", store.record.frames, store.record.width)
    config = HeadsConfig.model_validate({"epochs": 2, "batch_size": 32, **changes})
    watch = TrainingCallbacks(ignore, lambda label, unit: nullcontext(ignore), folder)
    return train_experts(TrainingRequest(store, spec, TARGETS, config, 0, predicted=("validation",)), watch, kept)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every row that `FeatureStore.read` has read since; and -1 whenever coordinates were read."""
    seen: list[int] = []
    read, read_coordinates = FeatureStore.read, derived.read_coordinates

    def recorded(store: FeatureStore, rows: Any, **options: Any) -> np.ndarray:
        seen.extend(np.asarray(rows).tolist())
        return read(store, rows, **options)

    def coordinates(*arguments: Any) -> np.ndarray:
        seen.append(-1)
        return read_coordinates(*arguments)

    monkeypatch.setattr(FeatureStore, "read", recorded)
    monkeypatch.setattr(derived, "read_coordinates", coordinates)
    return seen


@pytest.mark.slow
def test_kept_inputs_give_what_fresh_ones_give_and_are_read_once(
    make_store: MakeStore, tmp_path: Path, reads: list[int]
) -> None:
    store, kept = make_store(clips=(40, 20, 20)), KeptInputs(1.0)
    used = [*store.rows("train"), *store.rows("validation")]
    found = [train(store, tmp_path, form, changes, kept) for form, changes in (*SETTINGS, *reversed(SETTINGS))]
    # Statistics and attention, which made room for the making of coordinates, and were read again; no test clip.
    assert sorted(reads) == sorted([-1, *(5 * used)])
    for (form, changes), first, second in zip(SETTINGS, found, reversed(found), strict=False):
        fresh = train(store, tmp_path, form, changes, None)
        assert set(fresh.predictions) == {"validation"}
        for one in (first, second):
            np.testing.assert_array_equal(one.predictions["validation"], fresh.predictions["validation"])
            assert one.validation_mae == fresh.validation_mae


def test_no_more_is_kept_than_the_limit_allows(make_store: MakeStore, reads: list[int]) -> None:
    store = make_store(clips=(40, 20, 20))
    frames, width = store.record.frames, store.record.width
    specs: list[InputForm] = ["attention", "statistics"]
    attention, statistics = (InputSpec(form, "all", frames, width) for form in specs)
    kept = KeptInputs((60 * (attention.bytes_per_clip + statistics.bytes_per_clip) - 1) / (1 << 30))

    def take(spec: InputSpec) -> int:
        reads.clear()
        kept.states(store, spec, memory_gib=1.0, show=lambda label, unit: nullcontext(ignore))
        return len(reads)

    assert [take(attention), take(attention), kept.nbytes] == [60, 0, 60 * attention.bytes_per_clip]
    assert [take(statistics), take(statistics), kept.nbytes] == [60, 0, 60 * statistics.bytes_per_clip]
    assert take(attention) == 60, "it made room"
    none = KeptInputs()
    none.states(store, statistics, memory_gib=1.0, show=lambda label, unit: nullcontext(ignore))
    assert none.nbytes == 0


def test_coordinates_beyond_the_limit_are_read_as_far_as_they_are_wanted(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, config = make_store(clips=(40, 20, 20)), HeadsConfig(features="principal", rank=5)
    ranks: list[int] = []
    read = derived.read_coordinates
    monkeypatch.setattr(derived, "read_coordinates", lambda *given: ranks.append(given[1]) or read(*given))
    whole, small = KeptInputs(1.0), KeptInputs(1e-6)
    (first, one), (second, two) = (
        kept.coordinates(store, config, ("train", "validation"), seed=0, show=lambda label, unit: nullcontext(ignore))
        for kept in (whole, small)
    )
    assert ranks == [39, 5]
    assert (whole.nbytes > 0, small.nbytes) == (True, 0)
    assert first.basis.rank == second.basis.rank == 5
    for split in ("train", "validation"):
        assert one.held[split].values.equal(two.held[split].values)
    np.testing.assert_array_equal(one.held["train"].values.numpy(), first.coordinates[store.rows("train")])


@pytest.mark.parametrize(("form", "changes"), [("statistics", {}), ("flatten", {"features": "principal"})])
@pytest.mark.slow
def test_other_splits_of_a_store_are_other_inputs(
    make_store: MakeStore, tmp_path: Path, form: InputForm, changes: dict[str, Any]
) -> None:
    store, kept = make_store(), KeptInputs(limit_gib=1.0)
    splits = store.clips["split"].tolist()
    divided = store.with_splits(splits[::-1])
    train(store, tmp_path, form, changes, kept)
    among, alone = (train(divided, tmp_path, form, changes, one) for one in (kept, KeptInputs()))
    np.testing.assert_array_equal(among.predictions["validation"], alone.predictions["validation"])


def test_inputs_that_were_read_once_give_what_fresh_ones_give(
    make_store: MakeStore, tmp_path: Path, reads: list[int]
) -> None:
    store = make_store()
    divided = store.with_splits([("test", "train", "validation", None, "train")[row % 5] for row in range(len(store))])
    spec = InputSpec("statistics", "all", store.record.frames, store.record.width)
    fresh = train(divided, tmp_path, "statistics", {}, None)
    every = read_all(store, spec)
    del reads[:]
    inputs = divided_inputs(divided, spec, every)
    config = HeadsConfig.model_validate({"epochs": 2, "batch_size": 32})
    wanted = TrainingRequest(divided, spec, TARGETS, config, 0, inputs=inputs)
    watch = TrainingCallbacks(ignore, lambda label, unit: nullcontext(ignore), tmp_path)
    again = train_experts(wanted, watch)
    assert reads == []
    np.testing.assert_array_equal(fresh.predictions["validation"], again.predictions["validation"])
    assert len(again.predictions["test"]) == len(divided.rows("test"))
