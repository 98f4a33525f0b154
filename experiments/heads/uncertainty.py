"""Uncertainty of ensembles: intervals fitted on validation clips, and how often the truth lies within."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from emonet.clips import Split
from emonet.evaluation import EnsembleFigures, SpreadScores, ensemble_figures

if TYPE_CHECKING:
    from emonet.checkpoints import Calibration, Intervals
    from experiments.heads.forms import HeadsData
    from lightningmodules.experts import TrainedExperts


@dataclass(frozen=True)
class Uncertainty:
    """What the spread of ensembles is made into.

    Args:
        intervals: saved with the experts.
        figures: how often the truth lies within.
    """

    intervals: Intervals
    figures: EnsembleFigures


def fit_uncertainty(
    data: HeadsData, trained: TrainedExperts, calibration: Calibration | None, ensemble: int
) -> Uncertainty | None:
    """Fit intervals around scores as they are served, and measure them; None where targets have one expert each.

    Args:
        data: store and corpus.
        trained: predictions of test clips are calibrated already, where there is a calibration.
        calibration: of the scores.
        ensemble: experts of each target (count).
    """
    if ensemble == 1:
        return None
    from emonet.checkpoints import fit_intervals

    targets, served = trained.targets, dict(trained.predictions)
    if calibration is not None:
        served["validation"] = calibration.apply(served["validation"], targets).astype(np.float32)
    intervals = fit_intervals(served["validation"], trained.spread["validation"], data.truth("validation"), targets)

    def scores(split: Split) -> SpreadScores:
        spread: Float[np.ndarray, "clips targets"] = trained.spread[split]
        return SpreadScores(data.truth(split), served[split], spread, intervals.half_widths(spread, targets))

    figures = ensemble_figures(
        scores("validation"),
        scores("test"),
        data.store.targets.subset(targets),
        members=ensemble,
        nominal=intervals.coverage,
    )
    return Uncertainty(intervals, figures)
