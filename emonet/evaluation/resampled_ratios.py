"""Sums over clips on every bootstrap resample: what ratios such as precision, and means, get their intervals from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int

from emonet.configs import EvaluationConfig
from emonet.evaluation.bootstrap import resample
from emonet.evaluation.results import Estimate, Unit


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
    counts, owner, unit = resample(speakers, config.resamples, seed)
    by_unit = np.zeros((counts.shape[1], columns.shape[1]))
    np.add.at(by_unit, owner, columns)
    drawn = np.concatenate([np.ones((1, counts.shape[1])), counts]) @ by_unit
    return ResampledSums(drawn, owner, unit, config.confidence)


def quotient(part: Float64[np.ndarray, "..."], whole: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """Element by element; NaN where the whole is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        result: np.ndarray = np.where(whole != 0, part / whole, np.nan)
    return result
