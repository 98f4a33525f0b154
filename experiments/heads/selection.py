"""Which of several forms of input is kept: the one that is best on validation clips, by `heads.select_by`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from emonet.configs import HeadsConfig, InputForm
from emonet.errors import RequestError
from emonet.evaluation import METRICS, UA, Metric, weighted_metrics
from experiments.heads.classes import require_classes, unweighted_accuracy

if TYPE_CHECKING:
    from experiments.heads.forms import FormScores, HeadsData, TriedForm
    from lightningmodules.experts import TrainedExperts


def selected_by(config: HeadsConfig) -> str:
    """What is compared, in words."""
    return f"{'' if config.select_by == 'ua' else 'mean '}validation {_metric(config).label}"


def require_selectable(data: HeadsData, config: HeadsConfig) -> None:
    """Check that there are classes where forms are to be chosen by them.

    Raises:
        RequestError: if there are none on validation clips.
    """
    if config.select_by == "ua":
        require_classes(data, "heads.select_by ua")


def require_inductive(config: HeadsConfig) -> None:
    """Check that experts can score a clip alone: not where they hear each speaker against all of that speaker's clips.

    Raises:
        RequestError: if they cannot.
    """
    if config.standardise == "speaker":
        raise RequestError(
            "heads.standardise speaker makes no experts that could be saved: to score a clip, they would need all "
            "clips of its speaker (transductive)",
            expected="--heads.standardise True or False; speaker with emonet heads --folds alone",
            found=config.standardise,
            hint="emonet heads --folds loso --standardise speaker --inputs statistics",
        )


def validation_figures(data: HeadsData, trained: TrainedExperts) -> dict[str, float]:
    """What forms of input, and trials of a sweep, are chosen by, on validation clips and without intervals.

    Args:
        data: what the experts were trained on.
        trained: the experts; each one's error is that of the epoch that it is kept at.

    Returns:
        mae and pearson (NaN where it is undefined for all), the means over experts; ua where there are classes.
    """
    predictions, truth = trained.predictions["validation"], data.truth("validation")
    found = weighted_metrics(truth, predictions, np.ones((1, len(truth))))
    defined = found["pearson"][np.isfinite(found["pearson"])]
    errors = list(trained.validation_mae.values())
    figures = {"mae": sum(errors) / len(errors), "pearson": float(defined.mean()) if len(defined) else float("nan")}
    accuracy = unweighted_accuracy(data, "validation", predictions)
    return figures if accuracy is None else {**figures, "ua": accuracy}


def best_form(values: Mapping[InputForm, float | None], config: HeadsConfig) -> InputForm:
    """The form with the best value, the first of equals.

    Args:
        values: of the validation metric; None where it is undefined.
        config: says which it is.
    """
    metric, (best, *others) = _metric(config), values
    for other in others:
        best = other if metric.beats(values[other], values[best]) else best
    return best


def best_by_figures(figures: Mapping[InputForm, Mapping[str, float]], config: HeadsConfig) -> InputForm:
    """The form with the best of `validation_figures`, the first of equals."""
    values = {form: some[config.select_by] for form, some in figures.items()}
    return best_form({form: value if np.isfinite(value) else None for form, value in values.items()}, config)


def best_of(tried: Mapping[InputForm, TriedForm], config: HeadsConfig) -> TriedForm:
    """The form with the best validation metric, the first of equals."""
    return tried[best_form({form: _value(one.scores, config) for form, one in tried.items()}, config)]


def _metric(config: HeadsConfig) -> Metric:
    return UA if config.select_by == "ua" else METRICS[config.select_by]


def _value(scores: FormScores, config: HeadsConfig) -> float | None:
    if config.select_by != "ua":
        return scores.validation.of(config.select_by).mean.value
    return scores.validation_classes.ua.value if scores.validation_classes is not None else None
