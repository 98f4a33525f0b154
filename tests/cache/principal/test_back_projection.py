from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from cache.principal import PrincipalStates, lift
from cache.principal import back_projection as lifting
from cache.principal.back_projection import STEEP
from cache.store import FeatureStore
from emonet.errors import RequestError
from emonet.experts import ExpertBank, InputSpec
from emonet.runtime import Arithmetic
from emonet.training import PrincipalBasis
from tests.cache.flat_stores import (
    ENOUGH,
    FEATURES,
    FRAMES,
    SPLITS,
    WIDTH,
    Fill,
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


def check_lift(states: PrincipalStates, options: dict[str, Any], *, tolerance: float, rows: int = 12) -> None:
    """An expert that was lifted gives for raw states what it gives for coordinates, of clips it has seen and others."""
    store, random = states.store, torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(states.basis.rank, rows)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random) / states.basis.rank**0.5)
    settings = {"memory_gib": ENOUGH, **options}
    weights, bias, at = [], [], 0
    for part, weight, moved in lift(store, states, layer.weight, layer.bias, **settings):
        assert part.start == at
        at = part.stop
        weights.append(weight)
        bias.append(moved)
    assert at == rows
    usable = store.rows()
    features = torch.from_numpy(store.read(usable)).flatten(1)
    with torch.no_grad():
        expected = layer(torch.from_numpy(states.coordinates[usable]))
        found = features.float() @ torch.cat(weights).T + torch.cat(bias)
    assert float((found - expected).abs().max() / expected.square().mean().sqrt()) < tolerance


@pytest.mark.parametrize("arithmetic", get_args(Arithmetic))
@pytest.mark.parametrize("standardise", [True, False])
def test_a_lifted_expert_gives_the_same(store: FeatureStore, standardise: bool, arithmetic: Arithmetic) -> None:
    states = compute(store, standardise=standardise, arithmetic=arithmetic)
    check_lift(states, {"arithmetic": arithmetic}, tolerance=1e-3)
    check_lift(states.of(5), {"arithmetic": arithmetic}, tolerance=1e-3)


def test_lifted_from_landmarks(store: FeatureStore) -> None:
    check_lift(compute(store, most=5, landmarks=12).of(7), {}, tolerance=1e-3)


@pytest.mark.parametrize("standardise", [True, False])
def test_constant_features(fill_store: Fill, tmp_path: Path, standardise: bool) -> None:
    states = made_states(12)
    states[:, 5:20] = 0.1  # as padding; and one that only a test clip moves
    states[11, 5] = 4
    store = fill(fill_store, tmp_path / "s.zarr", states, ["train"] * 10 + ["test"] * 2)
    found = compute(store, standardise=standardise)
    assert found.basis.rank == 9
    assert np.isfinite(found.coordinates).all()
    check_lift(found, {}, tolerance=1e-3)


@pytest.mark.parametrize(("ratio", "expected"), [(10, "bf16"), (1e5, "float32")])
def test_weak_coordinates_need_float32(monkeypatch: pytest.MonkeyPatch, ratio: float, expected: str) -> None:
    monkeypatch.setattr(lifting, "arithmetic_for", lambda features: "bf16")
    energies = torch.tensor([ratio, 5.0, 1.0])
    basis = PrincipalBasis(torch.zeros(9), torch.ones(9), torch.zeros(4, 3), energies, float(energies.sum()), 4)
    assert lifting.lifting_arithmetic(basis) == expected
    assert lifting.lifting_arithmetic(basis.truncated(1)) == "bf16"


def test_a_steep_spectrum(fill_store: Fill, tmp_path: Path) -> None:
    """Energies over six orders of magnitude: what is kept is still lifted faithfully."""
    random = np.random.default_rng(0)
    strengths = np.exp(-np.linspace(0, 9, 60))
    values = (random.normal(0, 1, (60, 60)) * strengths) @ random.normal(0, 1, (60, FEATURES))
    states = values.reshape(60, FRAMES, WIDTH).astype(np.float16)
    store = fill(fill_store, tmp_path / "s.zarr", states, ["train"] * 50 + ["test"] * 10)
    found = compute(store, standardise=False)
    assert float(found.basis.energies[0] / found.basis.energies[-1]) > STEEP
    check_lift(found, {}, tolerance=1e-3)


@pytest.mark.parametrize("clips", [0, 3, 12, 60])
def test_a_lift_keeps_to_its_memory(store: FeatureStore, reads: list[list[int]], clips: int) -> None:
    states = compute(store)
    reads.clear()
    parts = list(
        lift(
            store, states, torch.randn(9, states.basis.rank), torch.zeros(9), memory_gib=memory_for(store, clips + 0.5)
        )
    )
    assert max(map(len, reads)) <= max(2, clips)
    most = max(1, 2 * clips)  # a row of weights takes as much as two clips... of float16
    assert all(len(weights) <= most for _, weights, _ in parts)
    if clips == 60:  # the basis clips fit into half of it: they are read once
        assert sum(map(len, reads)) == len(states.rows)
    elif clips:
        assert sum(map(len, reads)) == len(states.rows) * len(parts)
    whole = next(iter(lift(store, states, torch.randn(9, states.basis.rank), torch.zeros(9), memory_gib=ENOUGH)))
    assert whole[1].shape == (9, FEATURES)


def test_a_lift_onto_another_store(store: FeatureStore, fill_store: Fill, tmp_path: Path) -> None:
    other = fill(fill_store, tmp_path / "other.zarr", made_states(40) * np.float16(2))
    states = compute(store)
    with pytest.raises(RequestError, match=rf"(?s)lift onto another store.*{store.fingerprint}.*{other.fingerprint}"):
        lift(other, states, torch.zeros(1, states.basis.rank), torch.zeros(1), memory_gib=ENOUGH)


def test_a_lift_of_weights_of_another_rank(store: FeatureStore) -> None:
    states = compute(store)
    with pytest.raises(RequestError, match=rf"(?s)not on these coordinates.*2 rows of 5.*\(2, {states.basis.rank}\)"):
        lift(store, states.of(5), torch.zeros(2, states.basis.rank), torch.zeros(2), memory_gib=ENOUGH)


def test_a_whole_expert_of_the_published_form(store: FeatureStore) -> None:
    """Trained layers behind the first stay as they are; the lifted bank takes raw states."""
    states = compute(store).of(0.95)
    rank = states.basis.rank
    small = ExpertBank(InputSpec("flatten", "all", 1, rank), ["anger", "fear"], (6, 5), seed=0).eval()
    spec = InputSpec("flatten", "all", FRAMES, WIDTH)
    large = ExpertBank(spec, ["anger", "fear"], (6, 5), seed=None).eval()
    first, lifted = small.layers[0], large.layers[0]
    with torch.no_grad():
        for part, weights, bias in lift(
            store, states, first.weight.flatten(0, 1), first.bias.flatten(), memory_gib=1.0
        ):
            lifted.weight.flatten(0, 1)[part], lifted.bias.view(-1)[part] = weights, bias
        for mine, theirs in zip(list(large.layers)[1:], list(small.layers)[1:], strict=True):
            mine.load_state_dict(theirs.state_dict())
        usable = store.rows()
        raw = spec.prepare(torch.from_numpy(store.read(usable)), torch.full((len(usable),), FRAMES))
        z = torch.from_numpy(states.coordinates[usable])
        expected = small(small.spec.prepare(z.unsqueeze(1), torch.ones(len(z), dtype=torch.int64)))
        torch.testing.assert_close(large(raw), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("arithmetic", get_args(Arithmetic))
@pytest.mark.slow
def test_whispers_own_size(fill_store: Fill, tmp_path: Path, arithmetic: Arithmetic) -> None:
    states = made_states(12, 1500, 768)
    store = fill(fill_store, tmp_path / "s.zarr", states, ["train"] * 9 + ["test"] * 3)
    found = compute(store, memory_gib=memory_for(store, 8.5), arithmetic=arithmetic)
    assert found.basis.rank == 8
    features, train = oracle(store, standardise=True), store.rows("train")
    coordinates = found.coordinates.astype(np.float64) * found.basis.unit
    expected = features @ features[train].T
    size = np.trace(expected[train]) / len(train)
    rounding = 2**-24 * features.shape[1] ** 0.5  # of float32 sums of so many products, in whatever order: 6e-5
    assert np.abs(coordinates @ coordinates[train].T - expected).max() / size < rounding
    check_lift(found, {"memory_gib": memory_for(store, 8.5), "arithmetic": arithmetic}, tolerance=1e-3, rows=5)


def test_parts_hold_whole_experts_where_memory_holds_one(store: FeatureStore) -> None:
    states = compute(store, standardise=True)
    weights, bias = torch.randn(12, states.basis.rank), torch.zeros(12)
    row_gib = 4 * FEATURES / 2**30
    clips_gib = 2 * store.clip_bytes * len(states.rows) / 2**30

    def parts(rows: float, together: int) -> list[tuple[int, int]]:
        lifted = lift(store, states, weights, bias, memory_gib=clips_gib + rows * row_gib, together=together)
        return [(part.start, part.stop) for part, _, _ in lifted]

    most = parts(0.0, 1)[0][1]  # what half the memory leaves besides the clips
    assert most >= 1
    assert all((stop - start) % 4 == 0 for start, stop in parts(6 + 0.5, 4)) or most < 4
    assert parts(100.0, 4) == [(0, 12)]
