"""Quantised experts for inference (bf16 or int8): their wide first layer is rounded, and no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Literal, final

import torch
from jaxtyping import Float, Float32, Int8
from torch import Tensor, nn

from emonet.experts.bank import layer_keys
from emonet.experts.inputs import Features, InputSpec
from emonet.runtime import cpu_abilities, has_bf16

ExpertsPrecision = Literal["float32", "bf16", "int8"]
Rounded = Literal["bf16", "int8"]
# Inputs that are summed up at once, at most: sums of blocks are added in float32, and those of int8 fit into int32.
BLOCK = 16_384
LEVELS = 127  # of int8, on either side of 0
GPU_ROWS, GPU_SIZES = 32, 8  # a GPU's products of int8 take more than 16 rows, and multiples of 8 otherwise
LAUNCHED = 64  # clips at a time on a GPU, so that what comes out of each block stays small
Product = Callable[[Tensor, Tensor], Tensor]
_TINY = torch.finfo(torch.float32).tiny * LEVELS  # below, steps would be no normal numbers


@final
class QuantizedBank(nn.Module):
    """Experts on flattened states whose first layer is held in bf16, or in int8 with a scale for each row of a block.

    It is called as an `ExpertBank` is; it cannot be trained. Empty until `load_expert` has filled it expert by expert.

    Args:
        spec: the form of the input, `flatten`: in the other forms the first layer is small.
        targets: ids, one expert each.
        hidden: outputs of the projection and of each hidden layer after it.
        precision: of the first layer's weights.

    Raises:
        ValueError: if the form is another one.
    """

    def __init__(self, spec: InputSpec, targets: Sequence[str], hidden: Sequence[int], precision: Rounded) -> None:
        super().__init__()
        if spec.form != "flatten":
            raise ValueError(f"experts of the form {spec.form} have no wide layer to round")
        self.spec = spec
        self.targets = tuple(targets)
        self.hidden = tuple(hidden)
        self.precision = precision
        experts, rows, width = len(self.targets), len(self.targets) * self.hidden[0], _block(spec)
        blocks = spec.features // width
        dtype = torch.int8 if precision == "int8" else torch.bfloat16
        self.first: Tensor
        self.scale: Tensor
        self.register_buffer("first", torch.empty(blocks, rows, width, dtype=dtype))
        self.register_buffer("scale", torch.ones(blocks, rows if precision == "int8" else 0))
        self.register_buffer("first_bias", torch.zeros(rows))
        self.first_bias: Tensor
        shapes = list(pairwise((*self.hidden, 1)))
        self.weights = nn.ParameterList(_frozen(experts, outputs, inputs) for inputs, outputs in shapes)
        self.biases = nn.ParameterList(_frozen(experts, outputs) for _, outputs in shapes)
        self.eval()

    @torch.no_grad()
    def load_expert(self, expert: int, tensors: Mapping[str, Tensor]) -> None:
        """Take over one expert, row by row: no copy of its first layer in float32 is made.

        Args:
            expert: its position in `targets`.
            tensors: float32, under their published names (`emonet.experts.layer_keys`); may be mapped from a file.
        """
        keys = layer_keys(len(self.hidden))
        start = expert * self.hidden[0]
        blocks, _, width = self.first.shape
        for row, weight in enumerate(tensors[f"{keys[0]}.weight"], start):
            parts = weight.view(blocks, width)
            if self.precision == "int8":
                largest = parts.abs().amax(1).clamp(min=_TINY)
                self.scale[:, row] = largest / LEVELS
                parts = (parts * (LEVELS / largest).unsqueeze(1)).round_()
            self.first[:, row] = parts
        self.first_bias[start : start + self.hidden[0]] = tensors[f"{keys[0]}.bias"]
        for key, weights, biases in zip(keys[1:], self.weights, self.biases, strict=True):
            weights[expert] = tensors[f"{key}.weight"]
            biases[expert] = tensors[f"{key}.bias"]

    @torch.no_grad()
    def forward(self, features: Features) -> Float32[Tensor, "batch experts"]:
        """Scores of a batch of clips by all experts."""
        values = features.values
        at_once = self.first.is_cuda and has_bf16(self.first.device)
        product = self._on_gpu(values) if at_once else self._block_by_block(values)
        hidden = product.view(len(values), len(self.targets), self.hidden[0]).transpose(0, 1)
        for weights, biases in zip(self.weights, self.biases, strict=True):
            hidden = torch.baddbmm(biases.unsqueeze(1), hidden.relu(), weights.transpose(1, 2))
        return hidden.squeeze(2).T

    def _block_by_block(self, values: Float[Tensor, "batch features"]) -> Float32[Tensor, "batch rows"]:
        blocks, rows, width = self.first.shape
        parts = values.reshape(len(values), blocks, width)
        product = self.first_bias.expand(len(values), rows).clone()
        multiply = _operator(self.first)
        for position in range(blocks):
            part = multiply(parts[:, position], self.first[position])
            if self.precision == "int8":
                part = part * self.scale[position]
            product += part
        return product

    def _on_gpu(self, values: Float[Tensor, "batch features"]) -> Float32[Tensor, "batch rows"]:
        """All blocks at once, whose launches would take longer than they."""
        blocks, rows, width = self.first.shape
        products = [torch.empty(0, rows, device=values.device)]
        for start in range(0, len(values), LAUNCHED):
            some = values[start : start + LAUNCHED]
            parts = some.reshape(len(some), blocks, width).transpose(0, 1)
            if self.precision == "bf16":
                product = bf16_blocks(parts, self.first)
            else:
                product = int8_blocks(parts, self.first) * self.scale.unsqueeze(1)
            products.append(product.sum(0) + self.first_bias)
        return torch.cat(products)


def _frozen(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(*shape), requires_grad=False)


def _block(spec: InputSpec) -> int:
    """Inputs of a block: those of as many frames as divide all of them evenly and stay within `BLOCK`."""
    fitting = [frames for frames in range(1, spec.frames + 1) if spec.frames % frames == 0]
    return max(frames * spec.width for frames in fitting if frames == 1 or frames * spec.width <= BLOCK)


def _operator(weights: Tensor) -> Product:
    """What multiplies inputs with a block of weights, in float32: fast where the processor has units for it."""
    if weights.device.type != "cpu":
        return _exact
    if weights.dtype == torch.bfloat16:
        return _bf16 if has_bf16(weights.device) else _exact
    return _int8 if hasattr(torch, "_int_mm") and _has_int8() else _exact


def _exact(inputs: Tensor, weights: Tensor) -> Tensor:
    """Anywhere: one block's weights become float32 for the moment."""
    return nn.functional.linear(inputs.float(), weights.float())


def _bf16(inputs: Tensor, weights: Tensor) -> Tensor:
    return nn.functional.linear(inputs.bfloat16(), weights).float()


def _int8(inputs: Tensor, weights: Tensor) -> Tensor:
    """Inputs in two digits of int8 each, so that they keep 15 bits; the sums are whole numbers, without rounding.

    The second digit is one more row of a product that waits for its weights: it costs next to nothing.
    """
    clips = len(inputs)
    values = inputs.to(torch.float32, copy=True)
    low, high = values.aminmax(dim=1, keepdim=True)
    step = torch.maximum(high, -low).clamp_(min=_TINY) / LEVELS
    first = values.div_(step).round()
    digits = torch.empty(2 * clips, values.shape[1], dtype=torch.int8)
    digits[:clips] = first
    digits[clips:] = values.sub_(first).mul_(2 * LEVELS).round_()
    products = torch._int_mm(digits, weights.T).float()
    return (products[:clips] + products[clips:] / (2 * LEVELS)) * step


def bf16_blocks(
    inputs: Float[Tensor, "blocks clips width"], weights: Float[Tensor, "blocks rows width"]
) -> Float32[Tensor, "blocks clips rows"]:
    """On a GPU: inputs in two digits of bf16 each, which hold 16 bits and so all of a float16."""
    clips = inputs.shape[1]
    products = torch.bmm(bf16_digits(inputs), weights.transpose(1, 2), out_dtype=torch.float32)
    return products[:, :clips] + products[:, clips:]


def bf16_digits(inputs: Float[Tensor, "blocks clips width"]) -> Float[Tensor, "blocks digits width"]:
    """Clips' first digits, and then what these leave."""
    first = inputs.bfloat16()
    return torch.cat([first, (inputs.float() - first.float()).bfloat16()], 1)


def int8_blocks(
    inputs: Float[Tensor, "blocks clips width"], weights: Int8[Tensor, "blocks rows width"]
) -> Float32[Tensor, "blocks clips rows"]:
    """On a GPU: as `_int8`, or, where its units take no such sizes, in float32 block by block."""
    blocks, clips, width = inputs.shape
    rows = weights.shape[1]
    if rows % GPU_SIZES or width % GPU_SIZES:
        return torch.stack([_exact(*block) for block in zip(inputs, weights, strict=True)])
    values = inputs.float()
    step = values.abs().amax(2, keepdim=True).clamp_(min=_TINY) / LEVELS
    values = values / step
    first = values.round()
    digits = torch.zeros(blocks, max(GPU_ROWS, 2 * clips), width, dtype=torch.int8, device=inputs.device)
    digits[:, :clips] = first
    digits[:, clips : 2 * clips] = values.sub_(first).mul_(2 * LEVELS).round_()
    sums = torch.empty(*digits.shape[:2], rows, dtype=torch.int32, device=inputs.device)
    for block, out in enumerate(sums):
        torch._int_mm(digits[block], weights[block].T, out=out)
    products = sums.float()
    return (products[:, :clips] + products[:, clips : 2 * clips] / (2 * LEVELS)) * step


def _has_int8() -> bool:
    """Whether the processor multiplies int8 in hardware; PyTorch's plain loop would be slower than float32."""
    return not {"amx_int8", "avx512_vnni"}.isdisjoint(cpu_abilities())
