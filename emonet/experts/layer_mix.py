"""Layer mix: each expert's own softmax over the encoder's layers, learned with its weights and folded into them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LayerMix(nn.Module):
    """What experts hear of statistics over several layers: their mean, weighted by each expert for itself.

    A scalar mix as ELMo's (Peters et al. 2018, arXiv:1802.05365) and SUPERB's (Yang et al. 2021, arXiv:2105.01051), of
    statistics instead of states. It starts with equal weights.

    Args:
        experts: how many.
        layers: that stand side by side (count).
        per_value: statistics of each value (count).
    """

    def __init__(self, experts: int, layers: int, per_value: int) -> None:
        super().__init__()
        self._per_value = per_value
        self.logits = nn.Parameter(torch.zeros(experts, layers))

    def forward(self, statistics: Float[Tensor, "batch features"]) -> Float[Tensor, "experts batch mixed"]:
        """Statistics of all layers as those of one, by expert."""
        clips, features = statistics.shape
        experts, layers = self.logits.shape
        mixed = features // layers
        by_layer = statistics.view(clips, self._per_value, layers, mixed // self._per_value).permute(2, 0, 1, 3)
        return (self.weights() @ by_layer.reshape(layers, clips * mixed)).view(experts, clips, mixed)

    def weights(self) -> Float[Tensor, "experts layers"]:
        """How much each expert makes of each layer; they add up to 1."""
        return self.logits.softmax(1)

    def unmixed(self, weight: Float[Tensor, "experts outputs mixed"]) -> Float[Tensor, "experts outputs features"]:
        """Weights on mixed statistics as weights on those of all layers, which give the same."""
        experts, outputs, mixed = weight.shape
        by_statistic = weight.reshape(experts, outputs, self._per_value, 1, mixed // self._per_value)
        return (by_statistic * self.weights().view(experts, 1, 1, -1, 1)).flatten(2)
