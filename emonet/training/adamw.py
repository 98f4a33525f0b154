"""AdamW for a bank of experts, whose large first layer is updated slice by slice within the backward pass."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from emonet.errors import RequestError
from emonet.experts import SLICE_WEIGHTS, HeadBank, Multiplication, slice_experts
from emonet.runtime import has_bf16, seed_of
from emonet.training.stochastic_rounding import RoundedAdamW

Precision = Literal["float32", "mixed", "bf16"]
State = Literal["full", "8bit"]
BLOCK = 256  # torchao: 8-bit values that share one float32 scale


class WeightBytes(NamedTuple):
    """What training holds for one weight of the first layer (bytes).

    Args:
        weights: the weight itself.
        moments: AdamW's two.
        best: the copy of the best epoch, which lies in the machine's memory, not a GPU's.
    """

    weights: float
    moments: float
    best: float


def weight_bytes(precision: Precision, state: State) -> WeightBytes:
    """What training holds for one weight of the first layer, part by part."""
    weight = 2.0 if precision == "bf16" else 4.0
    moments = 2 * weight if state == "full" else 2 * (1 + 4 / BLOCK)
    return WeightBytes(weight, moments, weight)


def slice_bytes(experts: int, weights_per_expert: int, precision: Precision, state: State = "full") -> int:
    """Most that the slice of the first layer's gradient takes (bytes).

    Args:
        experts: in the bank.
        weights_per_expert: of the first layer.
        precision: a GPU's products of bf16 are in float32; mixed copies the weights for them, slice by slice.
        state: 8-bit moments are updated expert by expert, by gradients of the weights' own type.
    """
    held = 1 if state == "8bit" else slice_experts(experts, weights_per_expert)
    twice = precision == "mixed" or (precision == "bf16" and state == "8bit")  # in bf16 and in float32
    return held * weights_per_expert * (6 if twice else 4)


class BankOptimiser:
    """AdamW over all experts, element by element, so that no expert's step depends on another.

    After it is made, each backward pass updates the first layer: its gradient is never held for all experts. `step`
    then updates the other layers. Both use the gradient at the weights that the forward pass saw. The first layer of
    the attention form has inputs by expert, is small, and is updated with the others, in float32.

    Args:
        bank: the experts, on the device where they are trained.
        learning_rate: per step.
        weight_decay: decoupled, per step, times the learning rate.
        precision: float32; mixed, whose products with the first layer are of factors in bf16, where the device
            computes in it; or bf16, which keeps the first layer's weights and moments in it, too, rounded at random.
        state: of AdamW's moments: full, or 8bit (torchao's, on a GPU).
        slice_weights: of the first layer whose gradient is held at a time, unless one expert has more (count).

    Raises:
        RequestError: if 8-bit moments are asked for without a GPU or torchao.
    """

    def __init__(
        self,
        bank: HeadBank,
        *,
        learning_rate: float,
        weight_decay: float,
        precision: Precision = "float32",
        state: State = "full",
        slice_weights: int = SLICE_WEIGHTS,
    ) -> None:
        first = bank.first
        self._bank, self._slice_weights = bank, slice_weights
        self._settings = settings = _Settings(
            learning_rate, weight_decay, precision, state, _adamw(first.weight.device, state)
        )
        others = [weight for weight in bank.parameters() if bank.query is not None or weight is not first.weight]
        self.others = torch.optim.AdamW(others, lr=learning_rate, weight_decay=weight_decay, fused=True)
        """Of all weights that the backward pass does not update."""
        self._first: _Slices | None = None
        if bank.query is None:
            first.hold(torch.bfloat16 if precision == "bf16" else first.weight.dtype)
            size = 1 if state == "8bit" else slice_experts(len(bank.targets), first.weight[0].numel(), slice_weights)
            self._first = _Slices(bank, size, settings)
            first.attach(self._first, self._first.multiply)

    def step(self) -> None:
        """Update all other layers by their gradients, and let go of these."""
        self.others.step()
        self.others.zero_grad()

    def rest(self, stopped: Sequence[bool]) -> None:
        """Update no slice of the first layer any more whose experts have all stopped.

        Args:
            stopped: by expert, in the bank's order.
        """
        if self._first is not None:
            self._first.stopped = tuple(stopped)

    @property
    def can_narrow(self) -> bool:
        """Whether `narrowed` can go on with some of the experts: where the first layer is updated in one slice."""
        return self._first is None or self._first.whole is not None

    def narrowed(self, bank: HeadBank, experts: Sequence[int]) -> BankOptimiser:
        """The optimiser of some of these experts, which goes on from where this one is; this one is done.

        Args:
            bank: these experts alone.
            experts: their positions in the bank of this optimiser.
        """
        settings = self._settings
        narrow = BankOptimiser(
            bank,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            precision=settings.precision,
            state=settings.state,
            slice_weights=self._slice_weights,
        )
        index = torch.as_tensor(experts)
        _hand_over(self.others, narrow.others, index)
        if self._first is not None and narrow._first is not None:
            assert self._first.whole is not None
            assert narrow._first.whole is not None
            _hand_over(self._first.whole.optimiser, narrow._first.whole.optimiser, index)
        self.detach()
        return narrow

    def detach(self) -> None:
        """Give the bank ordinary gradients again, and let go of the first layer's moments."""
        self._bank.first.detach()
        self._first = None


class _Settings(NamedTuple):
    learning_rate: float
    weight_decay: float
    precision: Precision
    state: State
    optimiser: Callable[..., torch.optim.Optimizer]

    @property
    def at_random(self) -> bool:
        """Whether weights and moments are rounded at random by code of ours."""
        return self.precision == "bf16" and self.state == "full"

    def multiplication(self, weight: Tensor) -> Multiplication:
        """How products with the first layer are computed: in bf16 where that runs in hardware."""
        if self.precision == "float32":
            return Multiplication(weight.dtype)
        rounded = has_bf16(weight.device)
        narrow = rounded and (self.precision == "bf16" or weight.is_cuda)
        return Multiplication(torch.bfloat16 if narrow else torch.float32, rounded)

    def rule(self, weight: Tensor, targets: Sequence[str], seed: int) -> _Whole | _Rounded:
        """What updates a slice of experts."""
        if self.at_random:
            seeds = [seed_of(seed, "rounding", target) for target in targets]
            return _Rounded(weight, seeds, self.learning_rate, self.weight_decay)
        rounding = {"bf16_stochastic_round": self.precision == "bf16"} if self.state == "8bit" else {"fused": True}
        shared = nn.Parameter(weight)
        return _Whole(
            shared, self.optimiser([shared], lr=self.learning_rate, weight_decay=self.weight_decay, **rounding)
        )


class _Slices:
    """Takes the first layer's gradient slice by slice out of its factors, and applies it."""

    def __init__(self, bank: HeadBank, size: int, settings: _Settings) -> None:
        weight, experts = bank.first.weight.detach(), len(bank.targets)
        self._slices = [slice(start, start + size) for start in range(0, experts, size)]
        self._rules = [settings.rule(weight[part], bank.targets[part], bank.seed) for part in self._slices]
        self.multiply = settings.multiplication(weight)
        self._product = self.multiply.result(weight.device)
        # Rounded at random, gradients may have any type; torch's optimisers want the weights' own.
        self._applied = self._product if settings.at_random else weight.dtype
        self._full = settings.state == "full"
        self._kept: dict[torch.dtype, Tensor] = {}
        self.stopped: tuple[bool, ...] = (False,) * experts

    @property
    def whole(self) -> _Whole | None:
        """What updates all experts at once, if that is how it is done, by an optimiser with full moments."""
        rule = self._rules[0]
        return rule if len(self._rules) == 1 and isinstance(rule, _Whole) and self._full else None

    def __call__(self, gradient: Tensor, inputs: Tensor) -> None:
        gradient = gradient.to(inputs.dtype)
        for part, rule in zip(self._slices, self._rules, strict=True):
            if all(self.stopped[part]):
                continue
            factor = gradient[:, part]
            shape = (*factor.shape[1:], inputs.shape[1])
            product = self._buffer(self._product, shape, inputs)
            self.multiply(factor.flatten(1).T, inputs, out=product.flatten(0, 1))
            if self._product != self._applied:
                product = self._buffer(self._applied, shape, inputs).copy_(product)
            rule.step(product)

    def _buffer(self, dtype: torch.dtype, shape: tuple[int, ...], inputs: Tensor) -> Tensor:
        # Kept from step to step: the system would clear the pages of a new one each time.
        if dtype not in self._kept:
            self._kept[dtype] = inputs.new_empty(shape, dtype=dtype)
        return self._kept[dtype][: shape[0]]


class _Whole:
    """An optimiser of torch's or torchao's own for a slice, whose weights share the bank's memory."""

    def __init__(self, weight: nn.Parameter, optimiser: torch.optim.Optimizer) -> None:
        self._weight, self.optimiser = weight, optimiser

    def step(self, gradient: Tensor) -> None:
        self._weight.grad = gradient
        self.optimiser.step()
        self._weight.grad = None


class _Rounded:
    """Weights and moments in bf16, rounded by random numbers that are each expert's own."""

    def __init__(self, weight: Tensor, seeds: Sequence[int], learning_rate: float, weight_decay: float) -> None:
        self._experts = [
            RoundedAdamW(one.view(-1), learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
            for one, seed in zip(weight, seeds, strict=True)
        ]

    def step(self, gradient: Tensor) -> None:
        for expert, one in zip(self._experts, gradient, strict=True):
            expert.step(one.view(-1))


def _hand_over(old: torch.optim.Optimizer, new: torch.optim.Optimizer, experts: Tensor) -> None:
    """Give an optimiser the moments that another has of the same weights of some experts."""
    (before,), (after,) = old.param_groups, new.param_groups
    for theirs, mine in zip(before["params"], after["params"], strict=True):
        new.state[mine] = {
            key: value[experts] if value.dim() else value.clone() for key, value in old.state[theirs].items()
        }


def _adamw(device: torch.device, state: State) -> Callable[..., torch.optim.Optimizer]:
    if state == "full":
        return torch.optim.AdamW
    field, hint = "heads.optimiser_state", "--heads.optimiser-state full"
    if device.type != "cuda":
        raise RequestError("8-bit moments need a CUDA GPU", where=field, expected="cuda", found=device.type, hint=hint)
    try:
        library: Any = importlib.import_module("torchao.optim")
    except ImportError as error:
        raise RequestError(
            "8-bit moments need torchao", where=field, found=error, hint=f"pip install torchao, or {hint}"
        ) from error
    optimiser: Callable[..., torch.optim.Optimizer] = library.AdamW8bit
    return optimiser
