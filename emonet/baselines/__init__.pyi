from .features import require_whisper
from .fitting import Wanted, baseline_predictions, fit_baselines, median_scores
from .names import ABOUT, STATES, chosen_baselines, licence_of
from .regressions import fit_ridge, some_clips

__all__ = [
    "ABOUT",
    "STATES",
    "Wanted",
    "baseline_predictions",
    "chosen_baselines",
    "fit_baselines",
    "fit_ridge",
    "licence_of",
    "median_scores",
    "require_whisper",
    "some_clips",
]
