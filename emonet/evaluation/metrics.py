"""Test figures with bootstrap intervals: MAE, RMSE, Pearson, Spearman and CCC, per target and in the mean.

CCC is the concordance correlation coefficient (Lin 1989): Pearson's, lowered where mean or spread of the predictions
are off. Conventions: a missing score is left out. Predictions that are all the same order nothing: their correlations
(CCC among them) are 0. Where the true scores are all the same there is nothing to order: correlations are undefined
(None) and left out of means. Intervals are percentiles over resamples of speakers, since clips of one speaker are not
independent; with fewer than 5 speakers, of clips. What a single one of them was rated for has no interval.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Float64, Int
from pydantic import Field, model_validator

from emonet.configs import EvaluationConfig
from emonet.numbers import shown
from emonet.schema import Schema

MetricName = Literal["mae", "rmse", "pearson", "spearman", "ccc"]
Unit = Literal["speakers", "clips"]
METRIC_NAMES: tuple[MetricName, ...] = get_args(MetricName)
FEWEST_SPEAKERS = 5  # below, resampling speakers would draw nearly the same few sets again and again
_BLOCK = 1 << 21  # weights (clips x resamples) worked on at once: 16 MiB of float64


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric and its direction, so that selection, tables and sweeps cannot disagree.

    Args:
        name: its key.
        label: what tables call it.
        better: which direction is better.
    """

    name: MetricName
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
            unit: what targets are called.
        """
        rated, varied, every = self.mae.over, self.pearson.over, len(self.mae.per_target)
        text = f"{rated} {unit}" if rated == every else f"{rated} of {every} {unit}"
        return text if varied == rated else f"{text} (Pearson, Spearman and CCC: {varied})"


@dataclass(frozen=True)
class Sampled:
    """Every metric of one set of predictions, on all clips and on every resample.

    Args:
        values: by metric; the first row is of all clips, the others of one resample each; the first column is the mean
            over targets, the others are the targets. NaN where undefined.
        targets: ids, one per further column.
        clips: evaluated (count).
        resampled: what each resample drew.
        confidence: coverage of intervals (0 to 1).
        units: speakers or clips, whichever was drawn, that are behind each column (count); a single one has no
            interval.
    """

    values: Mapping[MetricName, Float64[np.ndarray, "draws columns"]]
    targets: tuple[str, ...]
    clips: int
    resampled: Unit
    confidence: float
    units: Int[np.ndarray, " columns"]

    def scores(self) -> Scores:
        """Each figure with its interval."""
        fields = {name: _estimated(values, self) for name, values in self.values.items()}
        return Scores(**fields, resampled=self.resampled, clips=self.clips)

    def minus(self, other: Sampled, metric: MetricName) -> MetricScores:
        """How much larger a metric is than that of other predictions of the same clips, sampled by the same seed.

        Its interval is that of the difference: what makes a resample hard for both cancels out.
        """
        return _estimated(self.values[metric] - other.values[metric], self)


def sample(
    truth: Float[np.ndarray, "clips targets"],
    predictions: Float[np.ndarray, "clips targets"],
    *,
    targets: Sequence[str],
    speakers: Sequence[str],
    config: EvaluationConfig,
    seed: int = 0,
) -> Sampled:
    """Every metric of predictions, on all clips and on every resample.

    Args:
        truth: scores, NaN where nobody rated.
        predictions: of the same clips and targets.
        targets: ids, one per column.
        speakers: who speaks, one per clip.
        config: resamples and coverage.
        seed: of the resamples; predictions of the same clips are compared on the same ones.

    Raises:
        ValueError: if there are no clips, or a prediction is not a finite number.
    """
    if len(truth) == 0:
        raise ValueError("there are no clips to evaluate")
    if not np.isfinite(predictions).all():
        raise ValueError("a prediction is not a finite number")
    counts, owner, resampled = resample(speakers, config.resamples, seed)
    point, spread = metrics(truth, predictions, np.ones((1, len(truth)))), metrics(truth, predictions, counts, owner)
    found = {name: np.concatenate([point[name], spread[name]]) for name in METRIC_NAMES}
    values = {name: np.concatenate([_mean(each), each], 1) for name, each in found.items()}
    rated = ~np.isnan(truth)
    units = np.array([len(np.unique(owner[has])) for has in (rated.any(1), *rated.T)])
    return Sampled(values, tuple(targets), len(truth), resampled, config.confidence, units)


def evaluate(
    truth: Float[np.ndarray, "clips targets"],
    predictions: Float[np.ndarray, "clips targets"],
    *,
    targets: Sequence[str],
    speakers: Sequence[str],
    config: EvaluationConfig,
    seed: int = 0,
) -> Scores:
    """Compare predictions with scores: the arguments and errors of `sample`, each figure with its interval."""
    return sample(truth, predictions, targets=targets, speakers=speakers, config=config, seed=seed).scores()


def difference(
    truth: Float[np.ndarray, "clips targets"],
    predictions: Float[np.ndarray, "clips targets"],
    others: Float[np.ndarray, "clips targets"],
    *,
    metric: MetricName,
    speakers: Sequence[str],
    config: EvaluationConfig,
    seed: int = 0,
) -> Estimate:
    """How much larger a metric's mean over targets is for `predictions` than for `others`, with its own interval.

    Args:
        truth: scores, NaN where nobody rated.
        predictions: of the same clips and targets.
        others: what they are compared with.
        metric: its name.
        speakers: who speaks, one per clip.
        config: resamples and coverage.
        seed: of the resamples.
    """
    targets = [str(column) for column in range(truth.shape[1])]
    one, other = (
        sample(truth, each, targets=targets, speakers=speakers, config=config, seed=seed)
        for each in (predictions, others)
    )
    return one.minus(other, metric).mean


def resample(
    speakers: Sequence[str], resamples: int, seed: int
) -> tuple[Float64[np.ndarray, "resamples units"], Int[np.ndarray, " clips"], Unit]:
    """How often each unit is drawn in each resample, the unit's number of each clip, and what was drawn."""
    owner, unit = independent(speakers)
    units = int(owner.max()) + 1
    counts = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=resamples)
    return counts.astype(np.float64), owner, unit


def independent(speakers: Sequence[str]) -> tuple[Int[np.ndarray, " clips"], Unit]:
    """What counts as one independent observation: its number for each clip (from 0), and whether speaker or clip."""
    names, owner = np.unique(np.asarray(speakers), return_inverse=True)
    if len(names) >= FEWEST_SPEAKERS:
        return owner, "speakers"
    return np.arange(len(owner)), "clips"


def metrics(
    truth: Float[np.ndarray, "clips targets"],
    predictions: Float[np.ndarray, "clips targets"],
    weights: Float64[np.ndarray, "resamples units"],
    owner: Int[np.ndarray, " clips"] | None = None,
) -> dict[MetricName, Float64[np.ndarray, "resamples targets"]]:
    """All metrics under every row of weights; NaN where undefined.

    Args:
        truth: scores, NaN where nobody rated.
        predictions: of the same clips and targets.
        weights: how often each unit counts; clips times resamples are never held at once.
        owner: the unit's number of each clip; None if each clip is one.
    """
    results = {name: np.full((len(weights), truth.shape[1]), np.nan) for name in METRIC_NAMES}
    step = max(1, _BLOCK // max(1, len(truth)))
    for column in range(truth.shape[1]):
        rows = np.flatnonzero(~np.isnan(truth[:, column]))
        if len(rows) == 0:
            continue
        x, y = predictions[rows, column].astype(np.float64), truth[rows, column].astype(np.float64)
        units = rows if owner is None else owner[rows]
        for start in range(0, len(weights), step):
            block = slice(start, start + step)
            for name, values in _column(x, y, weights[block][:, units]).items():
                results[name][block, column] = values
    return results


def _column(
    x: Float64[np.ndarray, " clips"], y: Float64[np.ndarray, " clips"], weights: Float64[np.ndarray, "resamples clips"]
) -> dict[MetricName, Float64[np.ndarray, " resamples"]]:
    total = weights.sum(1)
    ranks_x, ranks_y = _ranks(x, weights), _ranks(y, weights)
    spearman, flat_x, flat_y = _rank_correlation(ranks_x, ranks_y, weights, total)
    pearson, concordance = _correlations(x, y, weights, total)
    with np.errstate(invalid="ignore", divide="ignore"):
        mae = weights @ np.abs(x - y) / total
        rmse = np.sqrt(weights @ np.square(x - y) / total)
    for correlation in (pearson, spearman, concordance):
        correlation[flat_x | np.isnan(correlation)] = 0.0  # NaN: they differ by less than arithmetic resolves
        correlation[flat_y | (total == 0)] = np.nan
    return {"mae": mae, "rmse": rmse, "pearson": pearson, "spearman": spearman, "ccc": concordance}


def _ranks(
    values: Float64[np.ndarray, " clips"], weights: Float64[np.ndarray, "resamples clips"]
) -> Float64[np.ndarray, "resamples clips"]:
    """Mid-ranks in each resample (less one half): the weight below a value plus half the weight at it."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    group: Int[np.ndarray, " clips"] = np.empty(len(values), np.int64)
    group[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(values))))
    at = np.add.reduceat(weights[:, order], starts, axis=1)
    middle = np.cumsum(at, 1) - at / 2
    return middle[:, group]


def _rank_correlation(
    x: Float64[np.ndarray, "resamples clips"],
    y: Float64[np.ndarray, "resamples clips"],
    weights: Float64[np.ndarray, "resamples clips"],
    total: Float64[np.ndarray, " resamples"],
) -> tuple[Float64[np.ndarray, " resamples"], np.ndarray, np.ndarray]:
    """Correlation of ranks, and whether each side has one rank only (exact: ranks are multiples of a half)."""
    middle = total[:, None] / 2  # the mean of mid-ranks, whatever the ties
    x, y = x - middle, y - middle
    xx, yy, xy = (np.einsum("rc,rc,rc->r", weights, a, b) for a, b in ((x, x), (y, y), (x, y)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(xy / np.sqrt(xx * yy), -1, 1), xx == 0, yy == 0


def _correlations(
    x: Float64[np.ndarray, " clips"],
    y: Float64[np.ndarray, " clips"],
    weights: Float64[np.ndarray, "resamples clips"],
    total: Float64[np.ndarray, " resamples"],
) -> tuple[Float64[np.ndarray, " resamples"], Float64[np.ndarray, " resamples"]]:
    """Weighted Pearson correlation and CCC in each resample."""
    apart = x.mean() - y.mean()
    x, y = x - x.mean(), y - y.mean()  # centred, so that little is lost in the differences below
    with np.errstate(invalid="ignore", divide="ignore"):
        mx, my = weights @ x / total, weights @ y / total
        xx = weights @ np.square(x) / total - mx * mx
        yy = weights @ np.square(y) / total - my * my
        xy = weights @ (x * y) / total - mx * my
        pearson: np.ndarray = np.clip(xy / np.sqrt(xx * yy), -1, 1)
        concordance: np.ndarray = np.clip(2 * xy / (xx + yy + np.square(mx - my + apart)), -1, 1)
    return pearson, concordance


def _estimated(values: Float64[np.ndarray, "draws columns"], of: Sampled) -> MetricScores:
    share = 100 * (1 - of.confidence) / 2
    ends = np.where(of.units > 1, _quiet(np.nanpercentile, values[1:], [share, 100 - share]), np.nan)
    mean, *each = (
        Estimate(value=_number(value), low=_number(low), high=_number(high))
        for value, low, high in zip(values[0], *ends, strict=True)
    )
    over = sum(one.value is not None for one in each)
    return MetricScores(mean=mean, over=over, per_target=dict(zip(of.targets, each, strict=True)))


def _mean(values: Float64[np.ndarray, "resamples targets"]) -> Float64[np.ndarray, "resamples 1"]:
    mean: Float64[np.ndarray, "resamples 1"] = _quiet(np.nanmean, values)[:, None]
    return mean


def _quiet(function: object, values: np.ndarray, *arguments: object) -> np.ndarray:
    """NumPy's nan-functions; rows or columns of NaN only give NaN, which is what is meant, without a warning."""
    axis = 1 if function is np.nanmean else 0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(Mean of empty slice|All-NaN slice encountered)", RuntimeWarning)
        result: np.ndarray = function(values, *arguments, axis=axis)  # type: ignore[operator]
    return result


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
