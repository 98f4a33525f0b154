"""Stochastic rounding: AdamW of weights that are kept in bf16, so that small updates count on average."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emonet.training.rounding_kernel import BETAS, EPSILON, LOW, arguments, kernel_for, stochastic_bf16

CACHED = 1 << 17  # elements worked on at once: their float32 copies stay in a processor's cache
LAUNCHED = 1 << 24  # on a GPU each operation costs its launch


class RoundedAdamW:
    """AdamW (decoupled decay) of one bf16 tensor, with moments in bf16; all three are rounded at random.

    Rounded to nearest, an update below half a unit in the last place (0.2 to 0.4 % of a weight) would be lost, and the
    second moment, which moves by 0.1 % a step, would stand still.

    On a GPU one compiled kernel does it all (12 times as fast); else, and on a processor, it goes chunk by chunk. Both
    have numbers of their own to round by, which follow from the seed alone.

    Args:
        weights: flat, bf16; updated in place.
        learning_rate: per step.
        weight_decay: per step, times the learning rate.
        seed: of the rounding.
    """

    def __init__(
        self, weights: Float[Tensor, " weights"], *, learning_rate: float, weight_decay: float, seed: int
    ) -> None:
        self._weights = weights
        self._mean, self._square = torch.zeros_like(weights), torch.zeros_like(weights)
        self._rate, self._decay = learning_rate, weight_decay
        self._kernel = kernel_for(weights)
        device = weights.device if self._kernel is None else "cpu"
        self._generator = torch.Generator(device).manual_seed(seed)
        self._steps = 0

    @torch.no_grad()
    def step(self, gradient: Float[Tensor, " weights"]) -> None:
        """One update by this gradient, of any floating type."""
        self._steps += 1
        first, second = (1 - beta**self._steps for beta in BETAS)
        if self._kernel is None:
            self._in_chunks(gradient, first, second)
            return
        keys = torch.randint(-(1 << 31), 1 << 31, (2,), generator=self._generator).tolist()
        numbers = arguments(keys, kept=1 - self._rate * self._decay, rate=self._rate / first, second=second)
        self._kernel(self._weights, self._mean, self._square, gradient, *numbers)

    def _in_chunks(self, gradient: Float[Tensor, " weights"], first: float, second: float) -> None:
        size = LAUNCHED if self._weights.is_cuda else CACHED
        noise = _Noise(min(size, len(gradient)), self._generator)
        for start in range(0, len(gradient), size):
            part = slice(start, start + size)
            slope = gradient[part].float()
            mean = self._mean[part].float().lerp_(slope, 1 - BETAS[0])
            square = self._square[part].float().mul_(BETAS[1]).addcmul_(slope, slope, value=1 - BETAS[1])
            weights = self._weights[part].float().mul_(1 - self._rate * self._decay)
            spread = (square / second).sqrt_().add_(EPSILON)
            weights.addcdiv_(mean, spread, value=-self._rate / first)
            for kept, values in ((self._weights, weights), (self._mean, mean), (self._square, square)):
                kept[part] = stochastic_bf16(values, noise.bits(len(values)))


class _Noise:
    """Random bits for one step: drawn once, and for each chunk multiplied by another random odd number.

    Drawing them anew would take longer than the update. The product of a uniform 32-bit number and an odd one is
    uniform, and its upper half mixes all bits of both.
    """

    def __init__(self, size: int, generator: torch.Generator) -> None:
        limit = 1 << 31
        self._generator = generator
        self._numbers = torch.randint(
            -limit, limit, (size,), dtype=torch.int32, generator=generator, device=generator.device
        )
        self._factors: list[int] = []

    def bits(self, size: int) -> Int[Tensor, " size"]:
        if not self._factors:
            drawn = torch.randint(0, 1 << 30, (256,), generator=self._generator, device=self._generator.device)
            self._factors = [2 * number + 1 for number in drawn.tolist()]
        return (self._numbers[:size] * self._factors.pop()).bitwise_right_shift_(16).bitwise_and_(LOW)
