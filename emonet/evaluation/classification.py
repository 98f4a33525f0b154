"""Classification figures with bootstrap intervals: UA, WA, macro F1, recall by class, and the confusion matrix.

UA (unweighted accuracy) is the mean recall over the classes, WA (weighted accuracy) the share of clips that are right,
macro F1 the mean over the classes of F1. A clip without a class, given or predicted, is left out and counted. A class
that a resample does not draw is left out of that resample's means. Intervals are drawn as those of `emonet.evaluation`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int
from pydantic import Field

from emonet.configs import EvaluationConfig
from emonet.evaluation.bootstrap import estimate, resamples
from emonet.evaluation.results import Estimate, Metric, Unit
from emonet.schema import Schema
from emonet.targets import NO_CLASS

ClassMetricName = Literal["ua", "wa", "macro_f1"]
CLASS_METRICS: dict[ClassMetricName, str] = {"ua": "UA", "wa": "WA", "macro_f1": "macro F1"}
"""Name -> what tables call it; more is better in all of them."""

UA = Metric("ua", CLASS_METRICS["ua"], "higher")


class ClassScores(Schema):
    """How well classes are told apart."""

    ua: Estimate
    """Unweighted accuracy: mean recall over the classes (0 to 1)."""
    wa: Estimate
    """Weighted accuracy: share of the clips that are right (0 to 1)."""
    macro_f1: Estimate
    """Mean over the classes of F1 (0 to 1)."""
    recall: dict[str, Estimate]
    """Share of each class' clips that are right (0 to 1), by id of the target that stands for it."""
    classes: dict[str, str]
    """What each class is called, by id of the target that stands for it."""
    confusion: tuple[tuple[int, ...], ...]
    """Clips (count): a row for each given class, a column for each predicted one, in the order of `classes`."""
    clips: int = Field(ge=0)
    """Clips that were classified (count)."""
    left_out: int = Field(ge=0)
    """Clips without one of these classes, or without a prediction (count)."""
    resampled: Unit
    """What the bootstrap drew."""

    def of(self, metric: ClassMetricName) -> Estimate:
        """One metric by name."""
        estimate: Estimate = getattr(self, metric)
        return estimate

    @property
    def shares(self) -> Float64[np.ndarray, "classes classes"]:
        """The confusion matrix with rows that add up to 1; a row of zeros for a class without clips."""
        counts = np.array(self.confusion, np.float64)
        shares: Float64[np.ndarray, "classes classes"] = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        return shares

    def flat(self) -> dict[str, float]:
        """`ua`, `wa`, `macro_f1`, `recall/anger` and so on, as they are logged; what is undefined is left out."""
        figures: dict[str, Estimate] = {name: self.of(name) for name in CLASS_METRICS}
        figures |= {f"recall/{target}": estimate for target, estimate in self.recall.items()}
        return {key: one.value for key, one in figures.items() if one.value is not None}

    def told(self) -> str:
        """What the figures are over, in words: `6 classes, 960 clips (40 left out)`."""
        left = f" ({self.left_out:,} left out)" if self.left_out else ""
        return f"{len(self.classes)} classes, {self.clips:,} clip{'s' * (self.clips != 1)}{left}"


@dataclass(frozen=True)
class SampledClasses:
    """Classification figures on all clips and on every resample.

    Args:
        values: by metric; the first row is of all clips, the others of one resample each. NaN where undefined.
        recall: of each class, in the same rows.
        confusion: on all clips (count).
        classes: what each is called, by id of its target.
        clips: classified (count).
        left_out: of all clips (count).
        resampled: what each resample drew.
        units: speakers or clips, whichever was drawn, behind the metrics (count); a single one has no interval.
        class_units: those behind each class' recall (count).
        confidence: coverage of intervals (0 to 1).
    """

    values: Mapping[ClassMetricName, Float64[np.ndarray, " draws"]]
    recall: Float64[np.ndarray, "draws classes"]
    confusion: Int[np.ndarray, "classes classes"]
    classes: Mapping[str, str]
    clips: int
    left_out: int
    resampled: Unit
    units: int
    class_units: Int[np.ndarray, " classes"]
    confidence: float

    def scores(self) -> ClassScores:
        """Each figure with its interval."""
        return ClassScores(
            **{name: self._estimate(values, self.units) for name, values in self.values.items()},
            recall={
                target: self._estimate(self.recall[:, row], int(self.class_units[row]))
                for row, target in enumerate(self.classes)
            },
            classes=dict(self.classes),
            confusion=tuple(tuple(int(count) for count in row) for row in self.confusion),
            clips=self.clips,
            left_out=self.left_out,
            resampled=self.resampled,
        )

    def minus(self, other: SampledClasses) -> dict[ClassMetricName, Estimate]:
        """How much larger each metric is than that of other predictions of the same clips, sampled by the same seed."""
        return {name: self._estimate(values - other.values[name], self.units) for name, values in self.values.items()}

    def _estimate(self, values: Float64[np.ndarray, " draws"], units: int) -> Estimate:
        return estimate(values, confidence=self.confidence, units=units)


def sample_classes(
    given: Int[np.ndarray, " clips"],
    predicted: Int[np.ndarray, " clips"],
    *,
    classes: Mapping[str, str],
    speakers: Sequence[str],
    config: EvaluationConfig,
    seed: int = 0,
) -> SampledClasses | None:
    """Every classification figure, on all clips and on every resample; None where no clip has both classes.

    Args:
        given: position of each clip's class, or `NO_CLASS`.
        predicted: of the same clips.
        classes: what each is called, by id of its target.
        speakers: who speaks, one per clip.
        config: resamples and coverage.
        seed: of the resamples; predictions of the same clips are compared on the same ones.
    """
    rows = np.flatnonzero((given != NO_CLASS) & (predicted != NO_CLASS))
    if not len(rows):
        return None
    draws, owner, unit = resamples(np.asarray(speakers)[rows].tolist(), config.resamples, seed)
    cells = given[rows] * len(classes) + predicted[rows]
    matrices = draws.sums(_by_unit(owner, cells, len(classes))).reshape(-1, len(classes), len(classes))
    recall, values = class_metrics(matrices)
    return SampledClasses(
        values,
        recall,
        matrices[0].astype(np.int64),
        classes,
        clips=len(rows),
        left_out=len(given) - len(rows),
        resampled=unit,
        units=draws.units,
        class_units=np.array([len(np.unique(owner[given[rows] == one])) for one in range(len(classes))], np.int64),
        confidence=config.confidence,
    )


def confusion(
    given: Int[np.ndarray, " clips"], predicted: Int[np.ndarray, " clips"], classes: int
) -> Float64[np.ndarray, "classes classes"]:
    """Clips (count) by given class (rows) and predicted class (columns); those without both are left out."""
    rows = np.flatnonzero((given != NO_CLASS) & (predicted != NO_CLASS))
    cells = given[rows] * classes + predicted[rows]
    return np.bincount(cells, minlength=classes * classes).astype(float).reshape(classes, classes)


def class_metrics(
    matrices: Float64[np.ndarray, "draws classes classes"],
) -> tuple[Float64[np.ndarray, "draws classes"], dict[ClassMetricName, Float64[np.ndarray, " draws"]]]:
    """Recall of each class, and each metric, of confusion matrices; NaN where undefined.

    Args:
        matrices: clips by given class (rows) and predicted class (columns).
    """
    right = np.diagonal(matrices, axis1=1, axis2=2)
    given, predicted = matrices.sum(2), matrices.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = right / given
        f1 = 2 * right / (given + predicted)
        wa = right.sum(1) / matrices.sum((1, 2))
    return recall, {"ua": _mean(recall), "wa": wa, "macro_f1": _mean(f1)}


def _by_unit(
    owner: Int[np.ndarray, " clips"], cells: Int[np.ndarray, " clips"], classes: int
) -> Float64[np.ndarray, "units cells"]:
    """How many clips each speaker (or clip) has in each cell of the confusion matrix."""
    units, size = int(owner.max()) + 1, classes * classes
    counted: Float64[np.ndarray, "units cells"] = np.bincount(owner * size + cells, minlength=units * size).astype(
        float
    )
    return counted.reshape(units, size)


def _mean(values: Float64[np.ndarray, "draws classes"]) -> Float64[np.ndarray, " draws"]:
    """Mean over the classes for which it is defined."""
    defined = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        mean: Float64[np.ndarray, " draws"] = np.where(defined, values, 0).sum(1) / defined.sum(1)
    return mean
