"""Predictions: scores of recordings and of sounds in memory, strongest emotions first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Float64

from emonet.targets import TargetSpec


@dataclass(frozen=True)
class Prediction:
    """What was heard in one recording.

    Args:
        audio: its path, or `bytes`.
        scores: target id -> score: emotions, strongest first, then attributes and quality in their own order; empty
            where the recording could not be used.
        seconds: how much of it was heard, at most the model's window; NaN where the model does not say.
        error: why it could not be used, else None.
        total: how long it is, in seconds; NaN where it does not say.
        notices: what should be known of its sound, a line each: how much of it was heard, channels that cancel, noise.
        uncertainties: target id -> half-width of the score's interval, in its units; only of ensembles.
        standardised: target id -> how far the score lies above the median of the model's training clips, in
            deviations (`Population`); empty where the model does not know.
        unfamiliarity: as in `SampleScores`.
    """

    audio: str
    scores: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None
    total: float = math.nan
    notices: tuple[str, ...] = ()
    uncertainties: Mapping[str, float] = field(default_factory=dict)
    standardised: Mapping[str, float] = field(default_factory=dict)
    unfamiliarity: float | None = None


@dataclass(frozen=True)
class SampleScores:
    """Scores of samples in memory.

    Args:
        scores: target id -> score, in the model's order of targets.
        uncertainties: target id -> half-width of the score's interval, in its units; only of ensembles.
        unfamiliarity: distance of the sound to what the model was trained on; 1 is as far as 99 % of validation clips
            reach. None where the model does not know.
    """

    scores: Mapping[str, float]
    uncertainties: Mapping[str, float] = field(default_factory=dict)
    unfamiliarity: float | None = None


def sample_scores(
    targets: Sequence[str],
    scores: Float[np.ndarray, "sounds targets"],
    half_widths: Float64[np.ndarray, "sounds targets"],
    unfamiliarity: Float[np.ndarray, " sounds"] | None,
) -> list[SampleScores]:
    """What is said of each sound.

    Args:
        targets: ids, one per column.
        scores: as they are told.
        half_widths: of the intervals around them; NaN where there are none.
        unfamiliarity: of each sound, where the model knows.
    """
    distances = [None] * len(scores) if unfamiliarity is None else unfamiliarity.tolist()
    return [
        SampleScores(
            dict(zip(targets, row, strict=True)),
            {name: width for name, width in zip(targets, widths, strict=True) if not math.isnan(width)},
            distance,
        )
        for row, widths, distance in zip(scores.tolist(), half_widths.tolist(), distances, strict=True)
    ]


def strongest_first(
    scores: Mapping[str, float], spec: TargetSpec, standardised: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Emotions, strongest on its own scale first; whatever else is scored follows in its own order.

    Args:
        scores: target id -> score.
        spec: what they mean.
        standardised: target id -> standard score (`Population`), which emotions are ranked by then; those without one
            follow those with one.
    """
    above = standardised or {}

    def strength(name: str) -> tuple[float, float]:
        return above.get(name, -math.inf), spec[name].share(scores[name])

    ranked = sorted(spec.ranked, key=strength, reverse=True)
    return {name: scores[name] for name in [*ranked, *spec.apart]}
