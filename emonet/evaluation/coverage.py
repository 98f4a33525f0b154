"""Coverage of prediction intervals: how often the truth lies within, as the spread is and scaled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

import numpy as np
from jaxtyping import Bool, Float

from emonet.schema import Schema
from emonet.targets import TargetSpec


class Coverage(Schema):
    """How often the truth lies within an interval around the score (0 to 1); null where nothing was rated."""

    validation: float | None
    """Of the validation clips, which scaled intervals were fitted on."""
    test: float | None
    """Of the test clips."""
    present: float | None
    """Of the test clips whose true score is above the lowest."""


class IntervalFigures(Schema):
    """Spread and intervals of one target's ensemble, or means over targets."""

    spread: float | None
    """Deviation over the members, mean over the test clips (in units of the score)."""
    half_width: float | None
    """Of the scaled interval, mean over the test clips (in units of the score)."""
    raw: Coverage
    """Of intervals as the spread would give them if members were draws of a normal distribution around the truth."""
    scaled: Coverage
    """Of intervals whose width was scaled on the validation clips."""


class EnsembleFigures(Schema):
    """What the spread of ensembles says of their errors."""

    members: int
    """Experts of each target (count)."""
    nominal: float
    """Coverage that intervals are to have (0 to 1)."""
    mean: IntervalFigures
    """Over all targets."""
    per_target: dict[str, IntervalFigures]
    """By target id."""

    @property
    def rows(self) -> dict[str, IntervalFigures]:
        """By target id, and their mean."""
        return {**self.per_target, "mean": self.mean}

    @property
    def normal(self) -> float:
        """Deviations on either side of a normal distribution's mean that hold the nominal share."""
        return normal_deviations(self.nominal)

    def flat(self) -> dict[str, float]:
        """Figures of the test clips by name, for logs: means over targets."""
        found = {"spread": self.mean.spread, "half_width": self.mean.half_width}
        found |= {"coverage": self.mean.scaled.test, "raw_coverage": self.mean.raw.test}
        return {f"uncertainty/{name}": value for name, value in found.items() if value is not None}

    def __str__(self) -> str:
        scaled, raw = self.mean.scaled, self.mean.raw
        return (
            f"{100 * self.nominal:g} % intervals by the spread of {self.members} experts each hold "
            f"{_percent(scaled.test)} of the test clips' scores, {_percent(scaled.present)} of those above the lowest; "
            f"unscaled, {_percent(raw.test)} and {_percent(raw.present)}"
        )


def normal_deviations(share: float) -> float:
    """How many deviations on either side of its mean hold a share of a normal distribution."""
    return NormalDist().inv_cdf((1 + share) / 2)


@dataclass(frozen=True)
class SpreadScores:
    """Scores of a split's clips with their spread; all of shape (clips, targets).

    Args:
        truth: NaN where nobody rated.
        predictions: means over the members, as they are served.
        spread: deviations over the members.
        half_widths: of the scaled intervals; NaN where there is none.
    """

    truth: Float[np.ndarray, "clips targets"]
    predictions: Float[np.ndarray, "clips targets"]
    spread: Float[np.ndarray, "clips targets"]
    half_widths: Float[np.ndarray, "clips targets"]


def ensemble_figures(
    validation: SpreadScores, test: SpreadScores, spec: TargetSpec, *, members: int, nominal: float
) -> EnsembleFigures:
    """Measure how often the truth lies within intervals.

    Args:
        validation: what the scaling was fitted on.
        test: what nothing was fitted on.
        spec: the targets, one per column.
        members: experts of each target (count).
        nominal: coverage that the intervals are to have (0 to 1).
    """
    normal = normal_deviations(nominal)
    per_target = {}
    for column, target in enumerate(spec):
        present = test.truth[:, column] > target.low
        raw, scaled = (
            Coverage(
                validation=_within(validation, widths[0], column),
                test=_within(test, widths[1], column),
                present=_within(test, widths[1], column, present),
            )
            for widths in (
                (normal * validation.spread, normal * test.spread),
                (validation.half_widths, test.half_widths),
            )
        )
        per_target[target.id] = IntervalFigures(
            spread=_mean(test.spread[:, column]),
            half_width=_mean(test.half_widths[:, column]),
            raw=raw,
            scaled=scaled,
        )
    return EnsembleFigures(members=members, nominal=nominal, mean=_over(per_target), per_target=per_target)


def _within(
    scores: SpreadScores,
    widths: Float[np.ndarray, "clips targets"],
    column: int,
    among: Bool[np.ndarray, " clips"] | None = None,
) -> float | None:
    errors, width = np.abs(scores.predictions - scores.truth)[:, column], widths[:, column]
    counted = ~np.isnan(errors) & ~np.isnan(width)
    if among is not None:
        counted &= among
    return _mean((errors <= width)[counted])


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) and not np.isnan(values).any() else None


def _over(per_target: Mapping[str, IntervalFigures]) -> IntervalFigures:
    """Means over the targets where they are defined."""
    figures = list(per_target.values())

    def coverage(kinds: Sequence[Coverage]) -> Coverage:
        return Coverage.model_validate(
            {name: _defined([getattr(kind, name) for kind in kinds]) for name in Coverage.model_fields}
        )

    return IntervalFigures(
        spread=_defined([one.spread for one in figures]),
        half_width=_defined([one.half_width for one in figures]),
        raw=coverage([one.raw for one in figures]),
        scaled=coverage([one.scaled for one in figures]),
    )


def _defined(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _percent(share: float | None) -> str:
    return "an unknown share" if share is None else f"{100 * share:.0f} %"
