from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from emonet.runtime import Arithmetic, has_matrix_units
from emonet.training import Standardised, add_combinations, arithmetic_for, gram, inner_products
from emonet.training import gram_products as products
from emonet.training.gram_products import MANY

pytestmark = pytest.mark.numeric

ARITHMETICS = get_args(Arithmetic)


def made(clips: int, features: int, seed: int = 0) -> Standardised:
    """Float16 states whose features have means and deviations of their own."""
    random = torch.Generator().manual_seed(seed)
    shift, scale = torch.randn(features, generator=random), torch.rand(features, generator=random) + 0.5
    states = torch.randn(clips, features, generator=random).mul_(scale).add_(shift).half()
    return Standardised(states, shift, scale)


def exact(clips: Standardised) -> np.ndarray:
    return (clips.states.double().numpy() - clips.shift.double().numpy()) / clips.scale.double().numpy()


def own_products(clips: Standardised, arithmetic: Arithmetic) -> Tensor:
    return gram(clips, replace(clips, states=clips.states[:0]), arithmetic)[0]


def error(found: Tensor, expected: np.ndarray, size: float) -> float:
    return float(np.abs(found.double().numpy() - expected).max() / size)


@pytest.mark.parametrize("arithmetic", [pytest.param("float32", marks=pytest.mark.slow), "bf16"])
def test_products_of_many_features_are_those_of_float64(arithmetic: Arithmetic) -> None:
    left, right = made(60, MANY), made(40, MANY)
    right = Standardised(right.states, left.shift, left.scale)
    expected = exact(left) @ exact(left).T
    size = float(expected.diagonal().mean())
    rounding = 2**-25 * MANY**0.5  # of float32 sums of so many products, in whatever order: 1.5e-5; one of bf16: 4e-5
    assert error(own_products(left, arithmetic), expected, size) < rounding
    assert error(inner_products(left, right, arithmetic), exact(left) @ exact(right).T, size) < rounding
    own, across = gram(left, right, arithmetic)
    assert error(own, expected, size) < rounding
    assert error(across, exact(right) @ exact(left).T, size) < rounding


def test_one_bf16_product_alone_would_not_do() -> None:
    if not has_matrix_units():
        pytest.skip("this processor has no matrix units (Intel AMX)")
    clips = made(60, MANY)
    values, expected = clips.block(slice(None)), exact(clips) @ exact(clips).T
    with products._multiplying("bf16"):
        assert error(values @ values.T, expected, float(expected.diagonal().mean())) > 1e-5


@given(
    left=st.integers(1, 9),
    right=st.integers(1, 9),
    features=st.integers(1, 2000),
    arithmetic=st.sampled_from(ARITHMETICS),
)
def test_products_of_any_shape(left: int, right: int, features: int, arithmetic: Arithmetic) -> None:
    rows, columns = made(left, features), made(right, features, seed=1)
    columns = Standardised(columns.states, rows.shift, rows.scale)
    expected = exact(rows) @ exact(columns).T
    size = float(np.sqrt((exact(rows) ** 2).sum(1).max() * (exact(columns) ** 2).sum(1).max()))
    assert error(inner_products(rows, columns, arithmetic), expected, size) < 2e-5
    assert (
        error(own_products(rows, arithmetic), exact(rows) @ exact(rows).T, float((exact(rows) ** 2).sum(1).max()))
        < 2e-5
    )
    weights = torch.randn(3, left, generator=torch.Generator().manual_seed(0))
    sums = torch.ones(3, features)
    add_combinations(sums, weights, rows, arithmetic)
    expected = 1 + weights.double().numpy() @ exact(rows)
    assert error(sums, expected, float(np.abs(weights.numpy()).sum(1).max() * np.abs(exact(rows)).max())) < 2e-5


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_strips_and_blocks_cover_everything(monkeypatch: pytest.MonkeyPatch, arithmetic: Arithmetic) -> None:
    monkeypatch.setattr(products, "STRIP", 3)
    monkeypatch.setattr(products, "BLOCK_BYTES", 1)
    clips = made(11, 1600)
    expected = exact(clips) @ exact(clips).T
    assert error(own_products(clips, arithmetic), expected, float(expected.diagonal().mean())) < 1e-5


def test_the_states_and_the_settings_stay_as_they_were() -> None:
    clips = made(4, 600)
    clips = Standardised(clips.states.float(), clips.shift, clips.scale)
    before, backend = clips.states.clone(), torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    setting = backend.fp32_precision
    own_products(clips, "bf16")
    assert backend.fp32_precision == setting
    assert torch.equal(clips.states, before)


def test_float32_means_float32_whatever_the_program_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    clips, backend = made(20, 4096), torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    expected, setting = exact(clips) @ exact(clips).T, backend.fp32_precision
    backend.fp32_precision = "bf16"
    try:
        found = own_products(clips, "float32")
    finally:
        backend.fp32_precision = setting
    assert error(found, expected, float(expected.diagonal().mean())) < 2**-24 * 4096**0.5  # 4e-6; bf16: 4e-4


@pytest.mark.parametrize("features", [768, MANY])
def test_bf16_is_for_long_vectors_and_matrix_units(monkeypatch: pytest.MonkeyPatch, features: int) -> None:
    assert arithmetic_for(features) == ("bf16" if features == MANY and has_matrix_units() else "float32")
    unable: Any = lambda: False  # noqa: E731
    monkeypatch.setattr(products, "has_matrix_units", unable)
    assert arithmetic_for(features) == "float32"
