"""Dropout whose masks an expert would also get if it were trained alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from emonet.runtime import seed_of


class ExpertDropout(nn.Module):
    """Masks for all layers of all experts; each expert draws from a generator of its own, seeded by its target.

    Generators are made where the first masks are wanted: a bank that moves to another device during training would
    begin its sequence again.

    Args:
        targets: ids of the experts.
        widths: outputs of each layer that dropout follows.
        shares: of these outputs that are dropped, by layer (0 to 1).
        seed: of the run.
    """

    def __init__(self, targets: Sequence[str], widths: Sequence[int], shares: Sequence[float], seed: int) -> None:
        super().__init__()
        self.shares = tuple(shares)
        self._drawn = [width if share else 0 for width, share in zip(widths, self.shares, strict=True)]
        self._seeds = [seed_of(seed, "dropout", target) for target in targets]
        self._generators: list[torch.Generator] = []

    def forward(self, clips: int, like: Tensor) -> tuple[Tensor | None, ...]:
        """What each layer's outputs are multiplied with, `experts batch outputs`: 0, or 1 / (1 - share).

        None where nothing is dropped, and for all layers in evaluation.

        Args:
            clips: in the batch.
            like: gives device and dtype.
        """
        if not self.training or not sum(self._drawn):
            return (None,) * len(self.shares)
        # One draw per expert and step: so many small calls take longer than the numbers.
        draws = torch.empty(len(self._seeds), clips, sum(self._drawn), device=like.device)
        for draw, generator in zip(draws, self._on(like.device), strict=True):
            draw.uniform_(generator=generator)
        return tuple(
            (part >= share).to(like.dtype).div_(1 - share) if width else None
            for part, width, share in zip(torch.split(draws, self._drawn, 2), self._drawn, self.shares, strict=True)
        )

    def narrowed(self, experts: Sequence[int]) -> ExpertDropout:
        """The masks of some of these experts, which go on from where they are; these here are not to be drawn on.

        Args:
            experts: positions.
        """
        narrow = copy.copy(self)
        narrow._seeds = [self._seeds[expert] for expert in experts]
        narrow._generators = [self._generators[expert] for expert in experts] if self._generators else []
        return narrow

    def _on(self, device: torch.device) -> list[torch.Generator]:
        if not self._generators or self._generators[0].device != device:
            self._generators = [torch.Generator(device).manual_seed(seed) for seed in self._seeds]
        return self._generators
