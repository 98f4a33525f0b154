"""AdamW of bf16 weights as one kernel, for GPUs: all is read and written once, and a hash of place and step rounds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import no_type_check

import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor

BETAS = (0.9, 0.999)
EPSILON = 1e-8
LOW = (1 << 16) - 1  # the bits of a float32 that a bf16 lacks
_APART = 0x3C6EF372  # between the hash that rounds weights and mean, and that of the squares

Update = Callable[..., None]
"""Called as `update` is."""
MOST_SIZES = 6  # that are compiled: after eight, torch would run others uncompiled
_sizes: set[int] = set()  # of weights that `update` has been compiled for
_reasons: list[str] = []  # why nothing can be compiled here, once that is known


@no_type_check  # of shapes at run time, in tests: it could not be compiled
def update(
    weights: Float[Tensor, " weights"],
    mean: Float[Tensor, " weights"],
    square: Float[Tensor, " weights"],
    gradient: Float[Tensor, " weights"],
    keys: tuple[Int32[Tensor, ""], Int32[Tensor, ""]],
    kept: Float[Tensor, ""],
    rate: Float[Tensor, ""],
    second: Float[Tensor, ""],
) -> None:
    """One step, in place. Uncompiled it needs much memory; numbers that change are tensors, or each would be compiled.

    Args:
        weights: bf16.
        mean: of the gradient, bf16.
        square: mean of its square, bf16.
        gradient: float32.
        keys: random, of this step: with a weight's place they decide how it is rounded.
        kept: share of the weights that decay leaves.
        rate: learning rate over the bias of the mean.
        second: bias of the mean of squares.
    """
    slope, before = gradient.float(), mean.float()
    average = before + (slope - before) * (1 - BETAS[0])
    variance = square.float() * BETAS[1] + slope * slope * (1 - BETAS[1])
    moved = weights.float() * kept - rate * average / ((variance / second).sqrt() + EPSILON)
    places = torch.arange(len(weights), dtype=torch.int32, device=weights.device)
    bits = _hashed(_hashed(places + keys[0]) ^ keys[1])
    weights.copy_(stochastic_bf16(moved, bits & LOW))
    mean.copy_(stochastic_bf16(average, (bits >> 16) & LOW))
    square.copy_(stochastic_bf16(variance, _hashed(bits + _APART) & LOW))


def kernel_for(weights: Float[Tensor, " weights"]) -> Update | None:
    """`update`, compiled for these weights; None on a processor, where nothing can be compiled, or after many sizes."""
    size = len(weights)
    if not weights.is_cuda or _reasons or (size not in _sizes and len(_sizes) == MOST_SIZES):
        return None
    _sizes.add(size)
    return tried(_compiled, weights)


@torch.no_grad()
def tried(compiled: Callable[[], Update], weights: Float[Tensor, " weights"]) -> Update | None:
    """What `compiled` makes, if it runs: it is compiled by a step that changes nothing."""
    moments = (torch.zeros_like(weights) for _ in range(2))
    gradient = torch.zeros_like(weights, dtype=torch.float32)
    nothing = arguments((0, 0), kept=1.0, rate=0.0, second=1.0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's: of TF32, and of what it is made with itself
            kernel = compiled()
            kernel(weights, *moments, gradient, *nothing)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 no Triton, no C compiler, a GPU too old: many types
        _reasons.append(f"{type(error).__name__}: {error}".splitlines()[0])
        warnings.warn(
            f"training in bf16 is slower here, since its update cannot be compiled: {_reasons[0]}", stacklevel=2
        )
        return None
    return kernel


def arguments(
    keys: Sequence[int], *, kept: float, rate: float, second: float
) -> tuple[tuple[Int32[Tensor, ""], Int32[Tensor, ""]], Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
    """What `update` takes behind the gradient, each a tensor of its own on the processor.

    Args:
        keys: two, each from -2**31 to 2**31 - 1.
        kept: share of the weights that decay leaves.
        rate: learning rate over the bias of the mean.
        second: bias of the mean of squares.
    """
    first, other = (torch.tensor(key, dtype=torch.int32) for key in keys)
    left, size, bias = (torch.tensor(number, dtype=torch.float32) for number in (kept, rate, second))
    return (first, other), left, size, bias


@no_type_check
def stochastic_bf16(values: Float[Tensor, "*shape"], bits: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Round float32 values to bf16 up or down, so that the mean over all `bits` is the value itself.

    Args:
        values: float32.
        bits: uniform from 0 to 2**16 - 1, int32.
    """
    rounded = (values.view(torch.int32) + bits).bitwise_and_(~LOW)
    return rounded.view(torch.float32).bfloat16()


@cache
def _compiled() -> Update:
    compiled: Update = torch.compile(update, dynamic=False)
    return compiled


@no_type_check
def _hashed(numbers: Int32[Tensor, " weights"]) -> Int32[Tensor, " weights"]:
    """A bijection of 32 bits, each of which depends on all (lowbias32, Wellons 2018); shifts are without a sign."""
    numbers = (numbers ^ ((numbers >> 16) & LOW)) * 0x7FEB352D
    numbers = (numbers ^ ((numbers >> 15) & 0x1FFFF)) * (0x846CA68B - (1 << 32))
    return numbers ^ ((numbers >> 16) & LOW)
