"""AdamW for a bank of experts, whose large first layer is updated slice by slice within the backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from emonet.experts import SLICE_WEIGHTS, ExpertBank, Multiplication, slice_experts
from emonet.runtime import has_bf16, seed_of
from emonet.training.stochastic_rounding import RoundedAdamW

# Times the learning rate, of a layer mix: at 1 its few weights stay near equal until the others have done their work
# (on RAVDESS 0.23 to 0.29 of four layers), at 10 and 30 they part (0.45, 0.65) at no loss of validation MAE.
MIX_RATE = 10.0
Precision = Literal["float32", "mixed", "bf16"]


def weight_bytes(precision: Precision) -> int:
    """What one weight of the first layer takes, and as much each of its two moments (bytes)."""
    return 2 if precision == "bf16" else 4


def slice_bytes(experts: int, weights_per_expert: int, precision: Precision) -> int:
    """Most that the slice of the first layer's gradient takes (bytes).

    Args:
        experts: in the bank.
        weights_per_expert: of the first layer.
        precision: a GPU's products of bf16 are in float32; mixed copies the weights for them, slice by slice.
    """
    return slice_experts(experts, weights_per_expert) * weights_per_expert * (6 if precision == "mixed" else 4)


class BankOptimiser:
    """AdamW over all experts, element by element, so that no expert's step depends on another.

    After it is made, each backward pass updates the first layer: its gradient is never held for all experts. `step`
    then updates the other layers. Both use the gradient at the weights that the forward pass saw. A first layer that
    has inputs by expert (attention, mixed layers) is small, and is updated with the others, in float32.

    Args:
        bank: the experts, on the device where they are trained.
        learning_rate: per step.
        weight_decay: decoupled, per step, times the learning rate.
        precision: float32; mixed, whose products with the first layer are of factors in bf16, where the device
            computes in it; or bf16, which keeps the first layer's weights and moments in it, too, rounded at random.
        slice_weights: of the first layer whose gradient is held at a time, unless one expert has more (count).
    """

    def __init__(
        self,
        bank: ExpertBank,
        *,
        learning_rate: float,
        weight_decay: float,
        precision: Precision = "float32",
        slice_weights: int = SLICE_WEIGHTS,
    ) -> None:
        first = bank.first
        self._bank, self._slice_weights = bank, slice_weights
        self._settings = settings = _Settings(learning_rate, weight_decay, precision)
        mix = [] if bank.mix is None else [bank.mix.logits]
        apart = {id(weight) for weight in (mix if bank.has_own_inputs else [first.weight])}
        groups: list[dict[str, Any]] = [{"params": [one for one in bank.parameters() if id(one) not in apart]}]
        # Decay would draw the layers' weights together, and at this rate soon.
        groups += [{"params": mix, "lr": MIX_RATE * learning_rate, "weight_decay": 0.0}] if mix else []
        self.others = torch.optim.AdamW(groups, lr=learning_rate, weight_decay=weight_decay, fused=True)
        """Of all weights that the backward pass does not update."""
        self._first: _Slices | None = None
        if not bank.has_own_inputs:
            first.cast(torch.bfloat16 if precision == "bf16" else first.weight.dtype)
            size = slice_experts(len(bank.targets), first.weight[0].numel(), slice_weights)
            self._first = _Slices(bank, size, settings)
            first.attach(self._first, self._first.multiply)

    def step(self) -> None:
        """Update all other layers by their gradients, and let go of these."""
        self.others.step()
        self.others.zero_grad()

    def freeze(self, stopped: Sequence[bool]) -> None:
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

    def narrowed(self, bank: ExpertBank, experts: Sequence[int]) -> BankOptimiser:
        """The optimiser of some of these experts, which goes on from where this one is; this one is done.

        Args:
            bank: these experts alone.
            experts: their positions in the bank of this optimiser.
        """
        narrow = BankOptimiser(bank, **self._settings._asdict(), slice_weights=self._slice_weights)
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

    def multiplication(self, weight: Tensor) -> Multiplication:
        """How products with the first layer are computed: in bf16 where that runs in hardware."""
        if self.precision == "float32":
            return Multiplication(weight.dtype)
        rounded = has_bf16(weight.device)
        narrow = rounded and (self.precision == "bf16" or weight.is_cuda)
        return Multiplication(torch.bfloat16 if narrow else torch.float32, rounded)

    def rule(self, weight: Tensor, targets: Sequence[str], seed: int) -> _Whole | _Rounded:
        """What updates a slice of experts."""
        if self.precision == "bf16":
            seeds = [seed_of(seed, "rounding", target) for target in targets]
            return _Rounded(weight, seeds, self.learning_rate, self.weight_decay)
        return _Whole(weight, self.learning_rate, self.weight_decay)


class _Slices:
    """Takes the first layer's gradient slice by slice out of its factors, and applies it."""

    def __init__(self, bank: ExpertBank, size: int, settings: _Settings) -> None:
        weight, experts = bank.first.weight.detach(), len(bank.targets)
        self._slices = [slice(start, start + size) for start in range(0, experts, size)]
        self._rules = [settings.rule(weight[part], bank.targets[part], bank.seed) for part in self._slices]
        self.multiply = settings.multiplication(weight)
        # Kept from step to step: the system would clear the pages of a new one each time.
        self.product = weight.new_empty((size, *weight.shape[1:]), dtype=self.multiply.result(weight.device))
        self.stopped: tuple[bool, ...] = (False,) * experts

    @property
    def whole(self) -> _Whole | None:
        """What updates all experts at once, if that is how it is done, by torch's own optimiser."""
        rule = self._rules[0]
        return rule if len(self._rules) == 1 and isinstance(rule, _Whole) else None

    def __call__(self, gradient: Tensor, inputs: Tensor) -> None:
        gradient = gradient.to(inputs.dtype)
        for part, rule in zip(self._slices, self._rules, strict=True):
            if all(self.stopped[part]):
                continue
            factor = gradient[:, part]
            product = self.product[: factor.shape[1]]
            self.multiply(factor.flatten(1).T, inputs, out=product.flatten(0, 1))
            rule.step(product)


class _Whole:
    """Torch's own optimiser for a slice, whose weights share the bank's memory."""

    def __init__(self, weight: Tensor, learning_rate: float, weight_decay: float) -> None:
        self._weight = nn.Parameter(weight)
        self.optimiser = torch.optim.AdamW([self._weight], lr=learning_rate, weight_decay=weight_decay, fused=True)

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
    for before, after in zip(old.param_groups, new.param_groups, strict=True):
        for theirs, mine in zip(before["params"], after["params"], strict=True):
            new.state[mine] = {
                key: value[experts] if value.dim() else value.clone() for key, value in old.state[theirs].items()
            }
