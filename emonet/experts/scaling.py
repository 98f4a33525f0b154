"""Standardisation of the experts' inputs: measured in one pass over the training clips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from emonet.experts.inputs import Features, InputSpec

_BLOCK = 1 << 18  # values measured at a time: 1 MB, which stays in the processor's cache
_LEAST = 1024  # features at a time
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
    """Mean and deviation of each feature: in float32 within a batch, merged in float64 (Chan et al. 1983).

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
        values = self._spec.summary(features)
        count, width = values.shape
        step = max(_LEAST, _BLOCK // count)
        for start in range(0, width, step):
            self._merge(values[:, start : start + step], slice(start, start + step))
        self._count += count
        if self._spec.form == "attention":
            self._within += values[:, self._spec.width : 2 * self._spec.width].double().square().sum(0)

    def _merge(self, values: Float32[Tensor, "batch block"], block: slice) -> None:
        """Take in some features of a batch; `torch.var_mean` goes from value to value, in float64."""
        count, total = len(values), self._count + len(values)
        first = values[0]
        # Less one of them, values are as small as their deviation, and exactly zero where nothing varies.
        centred = values - first
        middle = centred.mean(0)
        squares = centred.sub_(middle).square_().sum(0)
        delta = first.double().add_(middle).sub_(self._mean[block])
        self._mean[block].add_(delta, alpha=count / total)
        self._squares[block].add_(squares).add_(delta.square_(), alpha=self._count * count / total)

    def variance(self) -> Float64[Tensor, " features"]:
        """Variance of each feature over everything taken in so far.

        Raises:
            ValueError: if nothing was taken in.
        """
        if self._count == 0:
            raise ValueError("no training clips to measure the scaling on")
        return self._squares / self._count

    def scaling(self) -> Scaling:
        """The scaling of everything taken in so far; features that never vary keep their scale.

        Raises:
            ValueError: if nothing was taken in.
        """
        variance = self.variance()
        if self._spec.form == "attention":  # law of total variance: within clips, plus between their means
            states = (self._within / self._count + variance[: self._spec.width]).sqrt()
        else:
            states = torch.ones(self._spec.width, dtype=torch.float64)
        return Scaling(self._mean.float(), _floored(variance.sqrt()).float(), _floored(states).float())


def standardised_within(spec: InputSpec, features: Features, groups: Int64[np.ndarray, " batch"]) -> Features:
    """Each group's clips less their own mean, and divided by their own deviation (floored as that of `ScalingMeter`).

    Nothing but these clips' own values is used: not who else there is, nor what the clips were rated. The values of a
    group of one are 0.

    Args:
        spec: statistics; what becomes of its values can be undone by no expert's first layer.
        features: of some clips.
        groups: number of each clip's group, such as its speaker.
    """
    values = features.values.clone()
    for group in np.unique(groups):
        rows = torch.from_numpy(np.flatnonzero(groups == group))
        meter = ScalingMeter(spec)
        meter.update(features.rows(rows))
        scaling = meter.scaling()
        values[rows] = (features.values[rows] - scaling.shift) / scaling.scale
    return Features(values, features.lengths)


def _floored(deviation: Float[Tensor, " features"]) -> Float[Tensor, " features"]:
    varying = deviation[deviation > 0]
    if len(varying) == 0:
        return torch.ones_like(deviation)
    floored = deviation.clamp(min=float(varying.median()) * FLOOR)
    return torch.where(deviation > 0, floored, torch.ones_like(deviation))
