"""Which layers of the encoder experts listen to, where each has learned a layer mix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from emonet.experts import member_ids
from emonet.numbers import shown

if TYPE_CHECKING:
    from emonet.checkpoints import ExpertsInfo

_NAMED = 3  # layers in a sentence


@dataclass(frozen=True)
class LayerWeights:
    """How much experts make of each layer.

    Args:
        layers: numbers of the encoder's layers, in order.
        by_target: target id -> weight of each layer, mean over its experts; they add up to 1.
    """

    layers: tuple[int, ...]
    by_target: Mapping[str, tuple[float, ...]]

    @property
    def mean(self) -> tuple[float, ...]:
        """Of all experts."""
        return _mean(self.by_target.values())

    def __str__(self) -> str:
        heaviest = sorted(zip(self.mean, self.layers, strict=True), reverse=True)[:_NAMED]
        named = ", ".join(f"{layer} ({shown(weight, 2)})" for weight, layer in heaviest)
        return (
            f"layers that matter most: {named}; mean weights of all experts, {shown(1 / len(self.layers), 2)} if equal"
        )


def layer_weights(info: ExpertsInfo) -> LayerWeights | None:
    """What the experts of a folder make of the layers; None where none were mixed."""
    heard = info.layers or info.encoder_layers
    if not info.layer_mix or heard is None:
        return None
    by_target = {
        target: _mean([info.layer_mix[name] for name in member_ids([target], info.ensemble)])
        for target in info.target_spec.ids
    }
    return LayerWeights(heard, by_target)


def _mean(mixes: Iterable[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(fmean(weights) for weights in zip(*mixes, strict=True))
