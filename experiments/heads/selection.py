"""Which of several forms of input is kept: the one that is best on validation clips, by `heads.select_by`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from emonet.configs import HeadsConfig, InputForm
from emonet.evaluation import METRICS, UA, Metric
from experiments.heads.classes import require_classes

if TYPE_CHECKING:
    from experiments.heads.forms import FormScores, HeadsData, TriedForm


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


def best_of(tried: Mapping[InputForm, TriedForm], config: HeadsConfig) -> TriedForm:
    """The form with the best validation metric, the first of equals."""
    return tried[best_form({form: _value(one.scores, config) for form, one in tried.items()}, config)]


def _metric(config: HeadsConfig) -> Metric:
    return UA if config.select_by == "ua" else METRICS[config.select_by]


def _value(scores: FormScores, config: HeadsConfig) -> float | None:
    if config.select_by != "ua":
        return scores.validation.of(config.select_by).mean.value
    return scores.validation_classes.ua.value if scores.validation_classes is not None else None
