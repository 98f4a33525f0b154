"""Linear layers of many experts, computed together; a large one can be updated while its gradient is computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

SLICE_WEIGHTS = 1 << 24  # as many experts at a time as have so many weights, but one at least

Update = Callable[[Tensor, Tensor], None]
"""Called with the gradient at a layer's outputs, `batch experts outputs`, and its inputs, `batch inputs`."""


@dataclass(frozen=True)
class Multiplication:
    """How products of large matrices are computed.

    Args:
        factors: the type that activations are brought into.
        rounded: factors are rounded to bf16, and summed up in float32; only products of bf16 tensors on a processor
            come out in bf16.
    """

    factors: torch.dtype
    rounded: bool = False

    def __call__(self, left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
        """`left @ right`."""
        if not self.rounded:
            return torch.mm(left, right, out=out)
        if left.is_cuda:
            return torch.mm(left.bfloat16(), right.bfloat16(), out_dtype=torch.float32, out=out)
        if self.factors == torch.bfloat16:
            return torch.mm(left.bfloat16(), right.bfloat16(), out=out)
        with _rounding_factors():
            return torch.mm(left, right, out=out)

    def result(self, device: torch.device) -> torch.dtype:
        """The type of products."""
        return torch.float32 if self.rounded and device.type == "cuda" else self.factors


@contextmanager
def _rounding_factors() -> Iterator[None]:
    """Let oneDNN round float32 factors to bf16 as it goes: there is no copy of them, and products stay float32."""
    backend = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = backend.fp32_precision
    backend.fp32_precision = "bf16"
    try:
        yield
    finally:
        backend.fp32_precision = before


def slice_experts(experts: int, weights_per_expert: int, slice_weights: int = SLICE_WEIGHTS) -> int:
    """How many experts' gradients of a shared layer are held at a time.

    Args:
        experts: in the bank.
        weights_per_expert: of the layer.
        slice_weights: held at most, unless one expert has more.
    """
    return max(1, min(experts, slice_weights // weights_per_expert))


class StackedLinear(nn.Module):
    """One linear layer per expert, computed together.

    Args:
        experts: how many.
        inputs: features in.
        outputs: features out.
    """

    def __init__(self, experts: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(experts, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(experts, outputs))
        self._update: Update | None = None
        self._multiply: Multiplication | None = None

    def forward(self, inputs: Tensor) -> Float[Tensor, "experts batch outputs"]:
        """Apply every expert's layer to its own (`experts batch inputs`) or a shared (`batch inputs`) input."""
        if inputs.dim() == 3:
            return torch.baddbmm(self.bias.unsqueeze(1), inputs, self.weight.transpose(1, 2))
        if self._update is not None and torch.is_grad_enabled():
            outputs: Tensor = _UpdatedLinear.apply(inputs, self.weight, self.bias, self)  # type: ignore[no-untyped-call]
        else:
            outputs = self.shared(inputs.to(self.multiply.factors))
        return outputs.transpose(0, 1)

    @property
    def multiply(self) -> Multiplication:
        """How products with a shared input are computed."""
        return self._multiply or Multiplication(self.weight.dtype)

    def attach(self, update: Update, multiply: Multiplication) -> None:
        """From now on the backward pass hands the weights' gradient on, factor by factor, and keeps none.

        Args:
            update: may change the weights at once: the backward pass is done with them.
            multiply: computes products with a shared input.
        """
        self._update, self._multiply = update, multiply

    def detach(self) -> None:
        """Go back to ordinary gradients and products."""
        self._update = self._multiply = None

    def cast(self, dtype: torch.dtype) -> None:
        """Keep the weights in another type; they become a new parameter."""
        if self.weight.dtype != dtype:
            self.weight = nn.Parameter(self.weight.detach().to(dtype))

    def shared(self, inputs: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch experts outputs"]:
        """Outputs for a shared input, which is of the type of the products' factors."""
        experts, outputs, width = self.weight.shape
        # A view, no copy, where the types allow: with 1,152,000 inputs the weights of an expert take 295 MB.
        size = experts if self.weight.dtype == inputs.dtype else slice_experts(experts, outputs * width)
        parts = (part.flatten(0, 1).to(inputs.dtype) for part in torch.split(self.weight, size))
        product = torch.cat([self.multiply(inputs, part.T) for part in parts], 1)
        return product.view(-1, experts, outputs).to(self.bias.dtype) + self.bias

    def towards_inputs(self, gradient: Float[Tensor, "batch experts outputs"]) -> Float[Tensor, "batch inputs"]:
        """The gradient at a shared input."""
        return gradient.flatten(1).to(self.weight.dtype) @ self.weight.flatten(0, 1)

    def backward_slice(
        self, gradient: Float[Tensor, "batch experts outputs"], inputs: Float[Tensor, "batch inputs"]
    ) -> None:
        """Let the weights be updated."""
        assert self._update is not None
        self._update(gradient, inputs)

    @torch.no_grad()
    def initialise(self, expert: int, generator: torch.Generator) -> None:
        """Draw one expert's weights and biases as `nn.Linear` does, in place."""
        bound = 1 / math.sqrt(self.weight.shape[2])
        self.weight[expert].uniform_(-bound, bound, generator=generator)
        self.bias[expert].uniform_(-bound, bound, generator=generator)


class _UpdatedLinear(torch.autograd.Function):
    """A shared layer whose weights get no gradient: what it is made of goes to the layer's update."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, layer: StackedLinear) -> Tensor:  # noqa: ARG004
        factors = inputs.to(layer.multiply.factors)
        ctx.save_for_backward(factors)
        ctx.layer, ctx.dtype = layer, inputs.dtype
        return layer.shared(factors)

    @staticmethod
    @once_differentiable  # type: ignore[misc]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, Tensor, None]:
        layer: StackedLinear = ctx.layer
        towards = layer.towards_inputs(gradient).to(ctx.dtype) if ctx.needs_input_grad[0] else None
        layer.backward_slice(gradient, ctx.saved_tensors[0])
        return towards, None, gradient.sum(0), None
