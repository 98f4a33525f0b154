"""Gram products: inner products of long float16 vectors, standardised a few features at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from emonet.runtime import Arithmetic, has_matrix_units

MANY = 1 << 18  # features from which a product is worth splitting
BLOCK_BYTES = 1 << 26  # of standardised values at a time (float32)
STRIP = 512  # rows of a symmetric product at a time: what lies below the strips is not computed


def arithmetic_for(features: int) -> Arithmetic:
    """bf16 where matrix units multiply it and vectors are long, else float32.

    A bf16 value has 8 bits. Rounding errors average out over many features, but with one product per pair they still
    reach 4e-5 of the vectors' squared length at 2^18 of them. So each value is split into two of bf16, which hold 16 of
    its bits, and three products are added up in float32: then the errors are those of float32. Matrix units multiply
    bf16 16 times as fast as vector units multiply float32; bf16 in vector units, twice as fast, would not repay three.
    """
    return "bf16" if features >= MANY and has_matrix_units() else "float32"


@dataclass(frozen=True)
class Standardised:
    """Clips less a shift, divided by a scale: `(states - shift) / scale`, made as they are needed.

    Args:
        states: `clips features`, float16 or float32; not changed.
        shift: `features`.
        scale: `features`.
    """

    states: Float[Tensor, "clips features"]
    shift: Float32[Tensor, " features"]
    scale: Float32[Tensor, " features"]

    def __len__(self) -> int:
        return len(self.states)

    def block(self, features: slice) -> Float32[Tensor, "clips block"]:
        """Some features of all clips, in float32."""
        values = self.states[:, features].to(torch.float32, copy=True)
        return values.sub_(self.shift[features]).mul_(self.scale[features].reciprocal())


def inner_products(left: Standardised, right: Standardised, arithmetic: Arithmetic) -> Float32[Tensor, "left right"]:
    """Each clip of `left` with each of `right`; both have the same features."""
    products = torch.zeros(len(left), len(right))
    with _multiplying(arithmetic):
        for features in _blocks(left.states.shape[1], len(left) + len(right)):
            rows, columns = (_parts(side.block(features), arithmetic) for side in (left, right))
            products += _times(rows, [part.T for part in columns])
    return products


def gram(
    clips: Standardised, others: Standardised, arithmetic: Arithmetic
) -> tuple[Float32[Tensor, "clips clips"], Float32[Tensor, "others clips"]]:
    """Each clip with each, every pair computed once, and each of others with each clip, in one go."""
    products, across = torch.zeros(len(clips), len(clips)), torch.zeros(len(others), len(clips))
    with _multiplying(arithmetic):
        for features in _blocks(clips.states.shape[1], len(clips) + len(others)):
            parts = _parts(clips.block(features), arithmetic)
            if len(others):
                across += _times(_parts(others.block(features), arithmetic), [part.T for part in parts])
            for first in range(0, len(clips), STRIP):
                strip = [part[first : first + STRIP] for part in parts]
                products[first : first + STRIP, first:] += _times(strip, [part[first:].T for part in parts])
            for part in parts[1:]:  # with itself, what is left of a clip does not average out
                products.diagonal().add_(part.square().sum(1))
    for first in range(0, len(clips), STRIP):
        end = first + STRIP
        products[end:, first:end] = products[first:end, end:].T
    return products, across


def add_combinations(
    sums: Float32[Tensor, "rows features"],
    weights: Float32[Tensor, "rows clips"],
    clips: Standardised,
    arithmetic: Arithmetic,
) -> None:
    """Add `weights @ clips` to `sums`, in place."""
    with _multiplying(arithmetic):
        factors = _parts(weights.clone(), arithmetic)
        for features in _blocks(sums.shape[1], len(weights) + len(clips)):
            sums[:, features] += _times(factors, _parts(clips.block(features), arithmetic))


def _blocks(features: int, rows: int) -> Iterator[slice]:
    """Slices of features; all `rows` together take about `BLOCK_BYTES` of each, before they are split."""
    step = min(16_384, max(512, BLOCK_BYTES // (4 * rows) // 64 * 64))
    for start in range(0, features, step):
        yield slice(start, min(start + step, features))


def _parts(values: Tensor, arithmetic: Arithmetic) -> list[Tensor]:
    """Float32 tensors that add up to `values`, which is overwritten: for bf16 the nearest values, and what is left."""
    if arithmetic == "float32":
        return [values]
    high = values.bfloat16().float()
    return [high, values.sub_(high)]


def _times(left: list[Tensor], right: list[Tensor]) -> Tensor:
    """The product of two sums, without that of what is left of both (2^-16 of it)."""
    product = left[0] @ right[0]
    if len(left) > 1:
        product.addmm_(left[0], right[1]).addmm_(left[1], right[0])
    return product


@contextmanager
def _multiplying(arithmetic: Arithmetic) -> Iterator[None]:
    """Let oneDNN round float32 factors to bf16, or forbid it; sums and results are float32 either way.

    On the processor a product of two bf16 tensors is rounded to bf16; `torch.mm(..., out_dtype=)` is for GPUs.
    """
    backend = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = backend.fp32_precision
    backend.fp32_precision = "bf16" if arithmetic == "bf16" else "ieee"
    try:
        yield
    finally:
        backend.fp32_precision = before
