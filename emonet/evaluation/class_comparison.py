"""Comparison of models by classes: paired differences of UA, WA and macro F1, and the p value of UA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from emonet.configs import EvaluationConfig
from emonet.evaluation.bootstrap import independent
from emonet.evaluation.classification import ClassMetricName, SampledClasses, sample_classes
from emonet.evaluation.permutation import swapped
from emonet.evaluation.results import Estimate
from emonet.schema import Schema
from emonet.targets import NO_CLASS


class ClassDifference(Schema):
    """By how much the classes that one model predicts are better than those of another; above 0 the first is."""

    ua: Estimate
    """Difference of the unweighted accuracies."""
    wa: Estimate
    """Difference of the weighted accuracies."""
    macro_f1: Estimate
    """Difference of macro F1."""
    p: float | None
    """P value of the difference of the unweighted accuracies, by the paired permutation test (0 to 1)."""

    def of(self, metric: ClassMetricName) -> Estimate:
        """One metric by name."""
        estimate: Estimate = getattr(self, metric)
        return estimate


@dataclass(frozen=True)
class Classified:
    """Classes of the clips, given and predicted.

    Args:
        names: what each class is called, by id of the target that stands for it.
        given: position of each clip's class, or `NO_CLASS`.
        predicted: label of a model or a baseline -> the same of what it predicts.
    """

    names: Mapping[str, str]
    given: Int[np.ndarray, " clips"]
    predicted: Mapping[str, Int[np.ndarray, " clips"]]


@dataclass(frozen=True)
class ClassTest:
    """What permutation tests of UA need."""

    classified: Classified
    speakers: Sequence[str]
    permutations: int
    seed: int

    def p(self, one: str, other: str) -> float | None:
        """P value of the difference of two UAs: a mean over the classes of the mean over each one's clips."""
        given, predicted = self.classified.given, self.classified.predicted
        known = (given != NO_CLASS) & (predicted[one] != NO_CLASS) & (predicted[other] != NO_CLASS)
        if not known.any():
            return None
        truth = given[known]
        worse = (predicted[one][known] != truth).astype(float) - (predicted[other][known] != truth)
        of_class = np.where(truth[:, None] == np.arange(len(self.classified.names)), worse[:, None], np.nan)
        owner, _ = independent(np.asarray(self.speakers)[known].tolist())
        return float(swapped(of_class, owner, permutations=self.permutations, seed=self.seed)[-1])


def sampled_classes(
    classified: Classified | None, speakers: Sequence[str], config: EvaluationConfig, seed: int
) -> dict[str, SampledClasses]:
    """Classification figures of each model, and of each baseline, on the same resamples; empty without classes."""
    if classified is None:
        return {}
    found = {
        label: sample_classes(
            classified.given, predicted, classes=classified.names, speakers=speakers, config=config, seed=seed
        )
        for label, predicted in classified.predicted.items()
    }
    return {label: sampled for label, sampled in found.items() if sampled is not None}
