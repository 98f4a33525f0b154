"""Results of an evaluation: each metric with its direction, figures with their intervals, and how they are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from emonet.numbers import shown
from emonet.schema import Schema

MetricName = Literal["mae", "rmse", "pearson", "spearman", "ccc"]


Unit = Literal["speakers", "clips"]


METRIC_NAMES: tuple[MetricName, ...] = get_args(MetricName)


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric and its direction, so that selection, tables and sweeps cannot disagree.

    Args:
        name: its key.
        label: what tables call it.
        better: which direction is better.
    """

    name: str
    label: str
    better: Literal["lower", "higher"]

    def beats(self, value: float | None, other: float | None) -> bool:
        """Whether `value` is better than `other`; anything beats None, None beats nothing."""
        if value is None or other is None:
            return value is not None
        return value < other if self.better == "lower" else value > other


METRICS: dict[MetricName, Metric] = {
    "mae": Metric("mae", "MAE", "lower"),
    "rmse": Metric("rmse", "RMSE", "lower"),
    "pearson": Metric("pearson", "Pearson", "higher"),
    "spearman": Metric("spearman", "Spearman", "higher"),
    "ccc": Metric("ccc", "CCC", "higher"),
}


class Estimate(Schema):
    """A figure and its interval; None where it is undefined."""

    value: float | None
    """The figure on all clips."""
    low: float | None
    """Lower end of its bootstrap interval."""
    high: float | None
    """Upper end of its bootstrap interval."""

    def __format__(self, form: str) -> str:
        """`0.412 [0.380, 0.447]`, or a dash where it is undefined; with signs, as differences are, by the form `+`."""
        value = shown(self.value, signed=form == "+")
        return value if self.value is None or self.low is None or self.high is None else f"{value} {self.between(form)}"

    def between(self, form: str = "") -> str:
        """`[0.380, 0.447]`, the interval alone."""
        low, high = (shown(end, signed=form == "+") for end in (self.low, self.high))
        return f"[{low}, {high}]"


class MetricScores(Schema):
    """One metric over the targets."""

    mean: Estimate
    """Unweighted mean over the targets for which it is defined."""
    over: int = Field(ge=0)
    """Targets that the mean is over, those for which it is defined (count)."""
    per_target: dict[str, Estimate]
    """By target id."""

    @model_validator(mode="before")
    @classmethod
    def _counted(cls, fields: Any) -> Any:
        if not isinstance(fields, dict) or "over" in fields or not isinstance(fields.get("per_target"), dict):
            return fields  # else a result of an earlier version
        values = (one.get("value") if isinstance(one, dict) else one.value for one in fields["per_target"].values())
        return {**fields, "over": sum(value is not None for value in values)}


class Scores(Schema):
    """All metrics of one set of predictions, on the scale of the scores."""

    mae: MetricScores
    """Mean absolute error (in units of the score); lower is better."""
    rmse: MetricScores
    """Root mean squared error (in units of the score); lower is better."""
    pearson: MetricScores
    """Pearson correlation (-1 to 1); higher is better."""
    spearman: MetricScores
    """Spearman rank correlation (-1 to 1); higher is better."""
    ccc: MetricScores
    """Concordance correlation coefficient (-1 to 1); higher is better."""
    resampled: Unit
    """What the bootstrap drew."""
    clips: int = Field(ge=0)
    """Clips evaluated (count)."""

    def of(self, metric: MetricName) -> MetricScores:
        """One metric by name."""
        scores: MetricScores = getattr(self, metric)
        return scores

    def flat(self) -> dict[str, float]:
        """`mae/mean`, `mae/anger` and so on, as they are logged; what is undefined is left out.

        `mae/targets` is how many targets the mean is over.
        """
        figures = {name: {"mean": self.of(name).mean, **self.of(name).per_target} for name in METRIC_NAMES}
        values = {
            f"{name}/{key}": estimate.value
            for name, estimates in figures.items()
            for key, estimate in estimates.items()
            if estimate.value is not None
        }
        return values | {f"{name}/targets": float(self.of(name).over) for name in METRIC_NAMES}

    def averaged(self, unit: str = "targets") -> str:
        """What means are over, in words: `4 targets`, or `3 of 4 targets (Pearson, Spearman and CCC: 2)`.

        Args:
            unit: what several targets are called.
        """
        rated, varied, every = self.mae.over, self.pearson.over, len(self.mae.per_target)
        every_one = f"{rated} {unit.removesuffix('s') if rated == 1 else unit}"
        text = every_one if rated == every else f"{rated} of {every} {unit}"
        return text if varied == rated else f"{text} (Pearson, Spearman and CCC: {varied})"
