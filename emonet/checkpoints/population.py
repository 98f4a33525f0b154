"""Reference population: median and deviation of each target's scores of the training clips, for standard scores.

A raw score compares with others of its own target alone: an emotion that a model hears a little of in every voice ranks
high in all of them. How far a score lies above what the model usually gives, in deviations, compares across targets.
Median and MAD, not mean and deviation, since most clips say next to nothing of most emotions (Leys et al. 2013,
doi:10.1016/j.jesp.2013.03.013).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Float
from pydantic import FiniteFloat, PositiveFloat, PositiveInt, model_validator

from emonet.schema import Schema
from emonet.targets import TargetSpec

MAD_SCALE = 1.4826
"""The MAD of a normal distribution times this is its deviation."""
FLOOR = 0.02
"""Least deviation, as a share of the target's scale: experts that give nearly all clips the same score have a MAD of
about 0, and a standard score in units of it would be noise, or infinite."""


class Population(Schema):
    """What a model gives the clips that it was trained on."""

    medians: dict[str, FiniteFloat]
    """By target id: median of the scores, as users see them."""
    deviations: dict[str, PositiveFloat]
    """By target id: 1.4826 times the median absolute deviation, but no less than 2 % of the target's scale."""
    clips: PositiveInt
    """Training clips that were scored (count)."""

    @model_validator(mode="after")
    def _is_whole(self) -> Population:
        if self.medians.keys() != self.deviations.keys():
            raise ValueError("medians and deviations are of different targets")
        return self

    def standardised(self, scores: Mapping[str, float]) -> dict[str, float]:
        """How far scores lie above the medians, in deviations: 0 is what half of the training clips reach.

        Args:
            scores: target id -> score; targets that the population lacks are left out.
        """
        return {
            target: (score - self.medians[target]) / self.deviations[target]
            for target, score in scores.items()
            if target in self.medians
        }

    @classmethod
    def joined(cls, parts: Iterable[Population | None]) -> Population | None:
        """Of a model of several banks, whose targets differ; None where none of them has one."""
        known = [part for part in parts if part is not None]
        if not known:
            return None
        return cls(
            medians={target: value for part in known for target, value in part.medians.items()},
            deviations={target: value for part in known for target, value in part.deviations.items()},
            clips=min(part.clips for part in known),
        )


def fit_population(scores: Float[np.ndarray, "clips targets"], spec: TargetSpec) -> Population:
    """Measure the scores that a model gives its training clips.

    Args:
        scores: as they are served, so calibrated if the experts are, shape (clips, targets).
        spec: the targets, one per column.
    """
    given = scores.astype(np.float64)
    medians = np.median(given, axis=0)
    spans = spec.high.astype(np.float64) - spec.low
    deviations = np.maximum(MAD_SCALE * np.median(np.abs(given - medians), axis=0), FLOOR * spans)
    return Population(
        medians=dict(zip(spec.ids, medians.tolist(), strict=True)),
        deviations=dict(zip(spec.ids, deviations.tolist(), strict=True)),
        clips=len(given),
    )
