"""Bootstrap intervals of test figures, per target and in the mean; differences of two models on the same resamples.

Intervals are percentiles over resamples of speakers, since clips of one speaker are not independent; with fewer than 5
speakers, of clips. What a single one of them was rated for has no interval.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from emonet.configs import EvaluationConfig
from emonet.evaluation.metrics import weighted_metrics
from emonet.evaluation.results import METRIC_NAMES, Estimate, MetricName, MetricScores, Scores, Unit

FEWEST_SPEAKERS = 5  # below, resampling speakers would draw nearly the same few sets again and again
_HELD = 1 << 24  # counts (resamples x units) that are held at once where nothing else limits them: 128 MiB of float64


@dataclass(frozen=True)
class Resamples:
    """How often each unit is drawn in each resample: as many draws as there are units, each as likely as any other.

    Args:
        units: speakers or clips (count).
        count: of resamples.
        seed: of the draws, which do not depend on how many are taken at a time.
    """

    units: int
    count: int
    seed: int

    def __len__(self) -> int:
        return self.count

    def blocks(self, rows: int) -> Iterator[tuple[slice, Float64[np.ndarray, "some units"]]]:
        """They are drawn anew each time."""
        rng, shares = np.random.default_rng(self.seed), np.full(self.units, 1 / self.units)
        for start in range(0, self.count, rows):
            part = slice(start, min(start + rows, self.count))
            yield part, rng.multinomial(self.units, shares, size=part.stop - part.start).astype(np.float64)

    def all(self) -> Float64[np.ndarray, "resamples units"]:
        """All at once."""
        (_, counts), *_ = self.blocks(self.count)
        return counts

    def sums(self, by_unit: Float64[np.ndarray, "units columns"]) -> Float64[np.ndarray, "draws columns"]:
        """Columns summed over what was drawn: in the first row each unit once, then a row for each resample."""
        drawn = np.empty((1 + self.count, by_unit.shape[1]))
        for part, counts in self.blocks(max(1, _HELD // self.units)):
            first = part.start == 0  # with the resamples: a row's last bits depend on how many are multiplied at once
            stacked = np.concatenate([np.ones((1, self.units)), counts]) if first else counts
            drawn[part.start + (not first) : part.stop + 1] = stacked @ by_unit
        return drawn


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
    draws, owner, resampled = resamples(speakers, config.resamples, seed)
    point, spread = (
        weighted_metrics(truth, predictions, np.ones((1, len(truth)))),
        weighted_metrics(truth, predictions, draws, owner),
    )
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
    speakers: Sequence[str], count: int, seed: int
) -> tuple[Float64[np.ndarray, "resamples units"], Int[np.ndarray, " clips"], Unit]:
    """How often each unit is drawn in each resample, the unit's number of each clip, and what was drawn."""
    draws, owner, unit = resamples(speakers, count, seed)
    return draws.all(), owner, unit


def resamples(speakers: Sequence[str], count: int, seed: int) -> tuple[Resamples, Int[np.ndarray, " clips"], Unit]:
    """As `resample`, but drawn when they are used, some at a time."""
    owner, unit = independent(speakers)
    return Resamples(int(owner.max()) + 1, count, seed), owner, unit


def independent(speakers: Sequence[str]) -> tuple[Int[np.ndarray, " clips"], Unit]:
    """What counts as one independent observation: its number for each clip (from 0), and whether speaker or clip."""
    names, owner = np.unique(np.asarray(speakers), return_inverse=True)
    if len(names) >= FEWEST_SPEAKERS:
        return owner, "speakers"
    return np.arange(len(owner)), "clips"


def estimate(draws: Float64[np.ndarray, " draws"], *, confidence: float, units: int) -> Estimate:
    """A figure with its percentile interval.

    Args:
        draws: the figure on all clips, then on each resample; NaN where undefined, which the interval leaves out.
        confidence: coverage of the interval (0 to 1).
        units: speakers or clips that were drawn (count); a single one has no interval.
    """
    share = 100 * (1 - confidence) / 2
    drawn = draws[1:][np.isfinite(draws[1:])]
    low, high = np.percentile(drawn, [share, 100 - share]) if len(drawn) and units > 1 else (np.nan, np.nan)
    return Estimate(value=_number(draws[0]), low=_number(low), high=_number(high))


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


@dataclass(frozen=True)
class ResampledSums:
    """Sums of columns over the clips, on all of them and on every resample.

    Args:
        sums: the first row is of all clips, the others of one resample each.
        owner: number of each clip's speaker (or of the clip, where clips are drawn).
        resampled: what each resample drew.
        confidence: coverage of intervals (0 to 1).
    """

    sums: Float64[np.ndarray, "draws columns"]
    owner: Int[np.ndarray, " clips"]
    resampled: Unit
    confidence: float

    def estimate(
        self, values: Float64[np.ndarray, " draws"], among: Bool[np.ndarray, " clips"] | None = None
    ) -> Estimate:
        """A figure with its interval.

        Args:
            values: what was made of the sums, in their rows; NaN where undefined.
            among: the clips that the figure is over, if not all: those of a single speaker give no interval.
        """
        units = len(np.unique(self.owner if among is None else self.owner[among]))
        drawn, share = values[1:][np.isfinite(values[1:])], 100 * (1 - self.confidence) / 2
        low, high = np.percentile(drawn, [share, 100 - share]) if len(drawn) and units > 1 else (np.nan, np.nan)
        ends = [float(one) if np.isfinite(one) else None for one in (values[0], low, high)]
        return Estimate(value=ends[0], low=ends[1], high=ends[2])

    def ratio(self, part: int, whole: int, among: Bool[np.ndarray, " clips"] | None = None) -> Estimate:
        """The quotient of two columns with its interval; undefined where the whole is 0."""
        return self.estimate(quotient(self.sums[:, part], self.sums[:, whole]), among)


def resampled_sums(
    columns: Float64[np.ndarray, "clips columns"], speakers: Sequence[str], config: EvaluationConfig, seed: int = 0
) -> ResampledSums:
    """Sum each column over all clips, and over those that each resample draws.

    Args:
        columns: what is summed; a clip of whom nothing counts has 0.
        speakers: who speaks, one per clip; one clip at least.
        config: resamples and coverage.
        seed: of the resamples.
    """
    draws, owner, unit = resamples(speakers, config.resamples, seed)
    by_unit = np.zeros((draws.units, columns.shape[1]))
    np.add.at(by_unit, owner, columns)
    return ResampledSums(draws.sums(by_unit), owner, unit, config.confidence)


def quotient(part: Float64[np.ndarray, "..."], whole: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """Element by element; NaN where the whole is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        result: np.ndarray = np.where(whole != 0, part / whole, np.nan)
    return result
