"""Judging scores: figures of ratings and classes on any rows, on all of their clips and on every resample.

Everything an audit says comes through here: the figure of a condition or a group is the first row of its draws, and its
interval the spread of the others; draws of the same resamples are subtracted from each other.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from emonet.clips import Clip
from emonet.configs import EvaluationConfig
from emonet.errors import RequestError
from emonet.evaluation import (
    CLASS_METRICS,
    METRICS,
    Estimate,
    Metric,
    Scored,
    class_metrics,
    estimate,
    resample,
    weighted_metrics,
)
from emonet.targets import NO_CLASS, Classes, ClassLabels, TargetSpec

JUDGED: Final[dict[str, Metric]] = {
    **{name: Metric(name, label, "higher") for name, label in CLASS_METRICS.items()},
    **dict(METRICS.items()),
}
"""Metrics that audits know: of classes, and of ratings in the mean over targets."""
_OF_CLASSES: Final = ("ua", "wa", "macro_f1")
_OF_RATINGS: Final = ("pearson", "mae")


@dataclass(frozen=True)
class Truth:
    """What people said of the clips.

    Args:
        spec: the model's targets.
        ratings: scores, one column for each of these targets, NaN where nobody rated; None without any.
        labels: classes that the model tells apart, and that of each clip; None without.
    """

    spec: TargetSpec
    ratings: Float[np.ndarray, "clips targets"] | None
    labels: ClassLabels | None

    @classmethod
    def of(cls, clips: Sequence[Clip], spec: TargetSpec, classes: Mapping[str, str | None] | None = None) -> Truth:
        """What the clips themselves carry.

        Args:
            clips: with scores, labels, or both.
            spec: the model's targets; scores of others are not looked at.
            classes: label -> id of the target that stands for it, as a corpus has them.

        Raises:
            RequestError: if no clip has a score or a class of the model.
        """
        ratings = np.array([[clip.scores.get(name, np.nan) for name in spec.ids] for clip in clips], np.float64)
        found = Classes.among(classes or {}, spec.ids)
        labels = None if found is None else ClassLabels(found, found.given([clip.label for clip in clips]))
        truth = cls(spec, ratings if np.isfinite(ratings).any() else None, labels)
        if not truth.metrics:
            raise RequestError(
                "no clip has a score or a class that the model knows",
                expected=f"scores of {', '.join(spec.ids[:5])}{', ...' if len(spec.ids) > 5 else ''}, or classes",
                hint="emonet corpus shows what a corpus has; the corpus and the model have to share targets",
            )
        return truth

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those that it can judge by, the most telling one first."""
        of_classes = _OF_CLASSES if self.labels is not None and (self.labels.given != NO_CLASS).any() else ()
        return (*of_classes, *(_OF_RATINGS if self.ratings is not None else ()))

    def check(self, metrics: Sequence[str]) -> tuple[str, ...]:
        """The metrics that are wanted, by default its own.

        Raises:
            RequestError: if there is no such metric, or nothing to make it of.
        """
        known = [name for name in JUDGED if (self.labels if name in CLASS_METRICS else self.ratings) is not None]
        if wrong := [name for name in metrics if name not in known]:
            raise RequestError("this cannot be measured here", expected=", ".join(known), found=", ".join(wrong))
        return tuple(metrics) or self.metrics

    def judged(self) -> Bool[np.ndarray, " clips"]:
        """Which clips have a score or a class."""
        count = len(self.ratings) if self.ratings is not None else 0 if self.labels is None else len(self.labels.given)
        rated = np.zeros(count, bool) if self.ratings is None else np.isfinite(self.ratings).any(1)
        return rated if self.labels is None else rated | (self.labels.given != NO_CLASS)


@dataclass(frozen=True)
class Draws:
    """Weights of units: all once, then as each resample drew them.

    Args:
        weights: the first row is of ones.
        owner: the unit's number of each row.
        unit: `speakers` or `clips`, whichever was drawn.
    """

    weights: Float64[np.ndarray, "draws units"]
    owner: Int[np.ndarray, " rows"]
    unit: str

    @classmethod
    def of(cls, speakers: Sequence[str], evaluation: EvaluationConfig, seed: int) -> Draws:
        """Draws of who speaks in each row (at least one)."""
        counts, owner, unit = resample(speakers, evaluation.resamples, seed)
        return cls(np.concatenate([np.ones((1, counts.shape[1])), counts]), owner, unit)


Figures = dict[str, Float64[np.ndarray, " draws"]]


def figures(
    truth: Truth,
    scores: Float[np.ndarray, "clips targets"],
    metrics: Sequence[str],
    rows: Int[np.ndarray, " rows"],
    weights: Float64[np.ndarray, "draws units"],
    owner: Int[np.ndarray, " rows"],
) -> Figures:
    """Each metric under every row of weights; NaN where undefined.

    Args:
        truth: of all clips.
        scores: of all clips; finite in `rows`.
        metrics: which.
        rows: of the clips that count.
        weights: how often each unit counts.
        owner: the unit's number of each of `rows`.
    """
    found: Figures = {}
    if truth.ratings is not None and any(name in METRICS for name in metrics):
        by_target = weighted_metrics(truth.ratings[rows], scores[rows], weights, owner)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)  # nobody rated these: NaN
            found |= {name: np.nanmean(values, axis=1) for name, values in by_target.items()}
    if truth.labels is not None and any(name in CLASS_METRICS for name in metrics):
        names, given = truth.labels.classes.names, truth.labels.given[rows]
        predicted = truth.labels.classes.predicted(scores[rows], truth.spec)
        known = (given != NO_CLASS) & (predicted != NO_CLASS)
        by_unit = np.zeros((weights.shape[1], len(names) ** 2))
        np.add.at(by_unit, (owner[known], given[known] * len(names) + predicted[known]), 1.0)
        found |= dict(class_metrics((weights @ by_unit).reshape(-1, len(names), len(names)))[1].items())
    return {name: found[name] for name in metrics}


def estimates(found: Figures, draws: Draws, evaluation: EvaluationConfig) -> dict[str, Estimate]:
    """Each figure with its interval."""
    units = draws.weights.shape[1]
    return {name: estimate(one, confidence=evaluation.confidence, units=units) for name, one in found.items()}


def mean(values: Float64[np.ndarray, " rows"], draws: Draws) -> Float64[np.ndarray, " draws"]:
    """Mean over rows, on all and on every resample."""
    units = draws.weights.shape[1]
    sums, counts = (np.bincount(draws.owner, one, units) for one in (values, np.ones(len(values))))
    found: Float64[np.ndarray, " draws"] = draws.weights @ sums / (draws.weights @ counts)
    return found


def errors(truth: Truth, scores: Float[np.ndarray, "clips targets"]) -> Float64[np.ndarray, " clips"]:
    """How wrong each clip's scores are; NaN where nobody said anything, or the clip was refused.

    With ratings, the mean over rated targets of the absolute error as a share of the target's range; else 1 where
    the class is wrong and 0 where it is right.
    """
    if truth.ratings is not None:
        shares = np.abs(scores - truth.ratings) / (truth.spec.high - truth.spec.low)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
            return np.asarray(np.nanmean(shares, axis=1), np.float64)
    assert truth.labels is not None
    given, predicted = truth.labels.given, truth.labels.classes.predicted(scores, truth.spec)
    return np.where((given == NO_CLASS) | (predicted == NO_CLASS), np.nan, (given != predicted).astype(np.float64))


def matrix(scored: Scored, clips: Sequence[Clip], spec: TargetSpec) -> Float64[np.ndarray, "clips targets"]:
    """Scores in the order of the clips and targets.

    Raises:
        RequestError: if there is no row, or column, for one of them, or several.
    """
    table = scored.scores
    for what, found, wanted in (
        ("clips", list(map(str, table.index)), [clip.id for clip in clips]),
        ("targets", list(map(str, table.columns)), list(spec.ids)),
    ):
        missing = [name for name in wanted if name not in set(found)]
        if missing or len(set(found)) < len(found):
            raise RequestError(
                f"the scores are not of these {what}",
                expected=f"each of {len(wanted)} once",
                found=f"none of {', '.join(missing[:3])}" if missing else "some of them twice",
            )
    return table.loc[[clip.id for clip in clips], list(spec.ids)].to_numpy(np.float64)
