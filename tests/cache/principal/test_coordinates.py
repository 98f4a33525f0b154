from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from cache.principal import computation as directions
from cache.principal import lift, listed
from cache.store import FeatureStore, open_array
from emonet.clips import Split
from emonet.errors import EmonetError, RequestError
from emonet.runtime import Arithmetic, Progress, ignore
from tests.cache.flat_stores import (
    ENOUGH,
    SPLITS,
    Fill,
    check_gram,
    compute,
    fill,
    made_states,
    memory_for,
    oracle,
    record_reads,
)

pytestmark = pytest.mark.numeric


@pytest.fixture
def store(fill_store: Fill, tmp_path: Path) -> FeatureStore:
    return fill(fill_store, tmp_path / "s.zarr", made_states(len(SPLITS)))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    return record_reads(monkeypatch)


@pytest.mark.parametrize("arithmetic", get_args(Arithmetic))
@pytest.mark.parametrize("standardise", [True, False])
def test_coordinates_have_the_inner_products_of_the_features(
    store: FeatureStore, standardise: bool, arithmetic: Arithmetic
) -> None:
    states = compute(store, standardise=standardise, arithmetic=arithmetic)
    check_gram(states, standardise=standardise, tolerance=1e-5 if arithmetic == "float32" else 2e-5)
    assert states.basis.rank == len(store.rows("train")) - 1
    assert states.rows.tolist() == store.rows("train").tolist()
    assert states.basis.energy_share == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("clips", [0, 2, 3, 7, 25, 1000])
def test_any_memory_gives_the_same_and_is_kept_to(store: FeatureStore, reads: list[list[int]], clips: int) -> None:
    states = compute(store, memory_gib=memory_for(store, clips + 0.5))
    usable, train = len(store.rows()), len(store.rows("train"))
    assert max(map(len, reads)) <= max(2, clips)
    if clips >= usable:
        assert sum(map(len, reads)) == usable  # each once
    elif clips == 25:  # two tiles of basis clips: 18 and 4, after all training clips were measured
        assert sum(map(len, reads)) == train + usable + (usable - 18)
    check_gram(states, standardise=True)


def test_memory_as_small_as_it_may_be_and_landmarks(store: FeatureStore, reads: list[list[int]]) -> None:
    states = compute(store, memory_gib=memory_for(store, 5.5), most=5, landmarks=9)
    assert max(map(len, reads)) <= 5
    again = compute(store, seed=0, most=5, landmarks=9)
    assert again.rows.tolist() == states.rows.tolist()
    assert again.fingerprint == states.fingerprint


def test_landmarks_hold_what_lies_in_their_span(store: FeatureStore) -> None:
    states = compute(store, most=5, landmarks=12)
    features, unit = oracle(store, standardise=True), states.basis.unit
    train = store.rows("train")
    assert set(states.rows.tolist()) < set(train.tolist())
    assert len(states.rows) == states.basis.rank == 12
    span, _ = np.linalg.qr(features[states.rows].T)
    within = features @ span
    coordinates = states.coordinates.astype(np.float64) * unit
    usable = store.rows()
    expected = within[usable] @ within[usable].T
    np.testing.assert_allclose(
        coordinates[usable] @ coordinates[usable].T, expected, atol=1e-4 * np.abs(expected).max()
    )
    share = (within[train] ** 2).sum() / (features[train] ** 2).sum()
    assert states.basis.energy_share == pytest.approx(share, rel=1e-4)
    assert share < 0.95
    covariance = coordinates[train].T @ coordinates[train]
    np.testing.assert_allclose(covariance, np.diag(states.basis.energies.numpy()), atol=1e-4 * covariance.max())
    other = compute(store, most=5, landmarks=12, seed=1)
    assert other.rows.tolist() != states.rows.tolist()
    assert other.folder != states.folder


def test_enough_landmarks_are_all_clips(store: FeatureStore) -> None:
    exact = compute(store)
    assert compute(store, most=5, landmarks=len(store.rows("train"))).fingerprint == exact.fingerprint


def test_all_clips_but_one_as_landmarks_are_nearly_the_exact_coordinates(store: FeatureStore) -> None:
    """Centred clips sum to zero, so any one of them lies in the span of the others."""
    exact = compute(store)
    states = compute(store, most=5, landmarks=len(store.rows("train")) - 1)
    assert states.basis.rank == exact.basis.rank
    torch.testing.assert_close(states.basis.energies, exact.basis.energies, rtol=1e-3, atol=0)
    check_gram(states, standardise=True, tolerance=1e-4)


@pytest.mark.parametrize("rank", [1, 5, 0.6, "all"])
def test_one_decomposition_serves_every_rank(store: FeatureStore, rank: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cache.principal.basis_files.CHUNK", (16, 4))
    whole = compute(store)
    part = whole.of(rank)
    scaled = whole.coordinates[:, : part.basis.rank] * (whole.basis.unit / part.basis.unit)
    np.testing.assert_allclose(part.coordinates, scaled, rtol=1e-5)
    assert part.fingerprint == whole.fingerprint
    train = store.rows("train")
    assert np.mean(part.coordinates[train] ** 2) == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("landmarks", [None, 300])
@pytest.mark.slow
def test_more_clips_than_features(fill_store: Fill, tmp_path: Path, landmarks: int | None) -> None:
    """Several chunks and strips of clips; the features' own number bounds the rank."""
    splits: list[Split] = ["train", "train", "test"] * 900
    store = fill(fill_store, tmp_path / "s.zarr", made_states(len(splits), 25, 2), splits)
    options = {} if landmarks is None else {"most": 1000, "landmarks": landmarks}
    states = compute(store, memory_gib=memory_for(store, 700), **options)
    assert len(states.rows) == (landmarks or 1800)
    assert states.basis.rank == 50
    check_gram(states, standardise=True)


def test_coordinates_of_some_splits_read_no_state_of_the_others(
    store: FeatureStore, reads: list[list[int]], fill_store: Fill, tmp_path: Path
) -> None:
    splits: list[Split] = ["validation"]
    some = compute(store, splits=splits)
    used = np.sort(np.concatenate([store.rows("train"), store.rows("validation")]))
    assert sorted(row for each in reads for row in each) == some.clips.tolist() == used.tolist()
    whole = compute(store)
    assert some.folder != whole.folder
    assert whole.clips.tolist() == store.rows().tolist()
    assert np.isnan(some.coordinates[store.rows("test")]).all()
    np.testing.assert_allclose(some.coordinates[used], whole.coordinates[used], atol=1e-4)
    lines = listed(store.path, store.fingerprint)
    assert [" for 31 of 40 clips, " in line for line in lines].count(True) == 1
    assert sum(" clips" in line for line in lines) == 1
    assert compute(store, splits=["train", "validation", "test"]).folder == whole.folder
    states = made_states(len(SPLITS))
    states[4::5] = 1000  # test clips
    spoiled = fill(fill_store, tmp_path / "spoiled.zarr", states)
    np.testing.assert_array_equal(compute(spoiled, splits=splits).coordinates[used], some.coordinates[used])


def test_more_coordinates_than_there_are(store: FeatureStore) -> None:
    states = compute(store)
    with pytest.raises(RequestError, match=rf"(?s)1 to {states.basis.rank}, of .*found: *1000"):
        states.of(1000)


def test_one_training_clip_is_too_few(fill_store: Fill, tmp_path: Path) -> None:
    store = fill(fill_store, tmp_path / "s.zarr", made_states(3), ["train", "validation", "test"])
    with pytest.raises(RequestError, match=r"(?s)at least two training clips.*found: *1"):
        compute(store)


def test_clips_that_are_all_the_same(fill_store: Fill, tmp_path: Path) -> None:
    states = np.repeat(made_states(1), 6, axis=0)
    store = fill(fill_store, tmp_path / "s.zarr", states, ["train"] * 5 + ["test"])
    with pytest.raises(RequestError, match="all the same"):
        compute(store)
    assert not list(tmp_path.glob("*unfinished"))


@pytest.mark.parametrize("memory", [1000, 4])
@pytest.mark.parametrize("row", [0, 2, 39])
def test_a_state_that_is_not_finite_is_told_with_its_clip(store: FeatureStore, row: int, memory: int) -> None:
    assert row in store.rows()
    states = np.asarray(open_array(store.path)[row])
    states[7, 3] = np.inf
    open_array(store.path, mode="r+")[row] = states
    with pytest.raises(EmonetError, match=rf"(?s)the states of clip 'c/{row}' are not finite.*--deep"):
        compute(FeatureStore.open(store.path), memory_gib=memory_for(store, memory + 0.5))


def test_a_store_that_changes_underneath(store: FeatureStore, fill_store: Fill, tmp_path: Path) -> None:
    other = fill(fill_store, tmp_path / "other.zarr", made_states(40) * np.float16(2))

    @contextmanager
    def exchanging(label: str, unit: str) -> Iterator[Progress]:
        yield ignore
        if label == "principal coordinates":
            shutil.copy(other.path / "clips.parquet", store.path)

    with pytest.raises(EmonetError, match=rf"(?s)changed while it was read.*{store.fingerprint}.*{other.fingerprint}"):
        compute(store, show=exchanging)
    assert not (store.path / "principal").exists()
    assert not list(tmp_path.glob("*unfinished"))


def test_too_little_space(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directions, "RESERVE", 1 << 60)
    message = r"(?s)too little space for the principal coordinates.*GB free, for the inner products of .* clips with"
    with pytest.raises(EmonetError, match=message):
        compute(store)


@pytest.mark.parametrize("landmarks", [0, 1])
def test_too_few_landmarks(store: FeatureStore, landmarks: int) -> None:
    with pytest.raises(RequestError, match=rf"(?s)at least two clips.*found: *{landmarks}"):
        compute(store, most=5, landmarks=landmarks)


def test_progress_of_every_pass(store: FeatureStore) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}

    @contextmanager
    def show(label: str, unit: str) -> Iterator[Progress]:
        assert unit == "clips"
        seen[label] = []
        yield lambda done, total, note="": seen[label].append((done, total))

    states = compute(store, show=show)
    calls = seen.setdefault("lift", [])
    list(lift(store, states, torch.randn(3, states.basis.rank), torch.zeros(3), memory_gib=ENOUGH,
              progress=lambda done, total, note="": calls.append((done, total))))  # fmt: skip
    assert list(seen) == ["reading states", "measuring states", "inner products", "principal coordinates", "lift"]
    for calls in seen.values():
        done, totals = zip(*calls, strict=True)
        assert len(set(totals)) == 1
        assert (done[0], done[-1]) == (0, totals[0])
        assert list(done) == sorted(done)
