"""Standardisation of the experts' inputs: measured in one pass over the training clips."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from emonet.inputs import Features, InputSpec

FLOOR = 0.05  # of the median deviation: padding's nearly constant states must not be blown up to full scale


@dataclass(frozen=True)
class Scaling:
    """What is subtracted from inputs, and what they are divided by.

    Args:
        shift: mean of each feature over the training clips, `features`.
        scale: deviation of each feature over the training clips, floored, `features`.
        states: deviation of each state value over frames, `width`; ones unless the form is attention.
    """

    shift: Float32[Tensor, " features"]
    scale: Float32[Tensor, " features"]
    states: Float32[Tensor, " width"]


class ScalingMeter:
    """Mean and deviation of each feature, batch by batch, in float64 (Chan et al. 1983).

    Args:
        spec: the form of the input.
    """

    def __init__(self, spec: InputSpec) -> None:
        self._spec = spec
        self._count = 0
        self._mean = torch.zeros(spec.features, dtype=torch.float64)
        self._squares = torch.zeros(spec.features, dtype=torch.float64)
        self._within = torch.zeros(spec.width, dtype=torch.float64)

    def update(self, features: Features) -> None:
        """Take in a batch of training clips."""
        values = self._spec.summary(features).double()
        count = len(values)
        mean = values.mean(0)
        delta = mean - self._mean
        total = self._count + count
        self._squares += (values - mean).square_().sum(0) + delta.square() * (self._count * count / total)
        self._mean += delta * (count / total)
        self._count = total
        if self._spec.form == "attention":
            self._within += values[:, self._spec.width : 2 * self._spec.width].square().sum(0)

    def scaling(self) -> Scaling:
        """The scaling of everything taken in so far; features that never vary keep their scale.

        Raises:
            ValueError: if nothing was taken in.
        """
        if self._count == 0:
            raise ValueError("no training clips to measure the scaling on")
        variance = self._squares / self._count
        if self._spec.form == "attention":  # law of total variance: within clips, plus between their means
            states = (self._within / self._count + variance[: self._spec.width]).sqrt()
        else:
            states = torch.ones(self._spec.width, dtype=torch.float64)
        return Scaling(self._mean.float(), _floored(variance.sqrt()).float(), _floored(states).float())


def _floored(deviation: Float[Tensor, " features"]) -> Float[Tensor, " features"]:
    varying = deviation[deviation > 0]
    if len(varying) == 0:
        return torch.ones_like(deviation)
    floored = deviation.clamp(min=float(varying.median()) * FLOOR)
    return torch.where(deviation > 0, floored, torch.ones_like(deviation))
