from .classes import MAJORITY, classes_of, digest_of_labels, require_classes
from .forms import (
    HeadsData,
    calibrated,
    digest_of_weights,
    open_corpus_of,
    open_data,
    requests,
    scratch_folder,
    train_form,
)
from .learnable import require_correlation
from .selection import best_by_figures, require_inductive, require_selectable, validation_figures
from .table import metric_table, stacked
from .verb import HeadsResult, origin, run, show

__all__ = [
    "MAJORITY",
    "HeadsData",
    "HeadsResult",
    "best_by_figures",
    "calibrated",
    "classes_of",
    "digest_of_labels",
    "digest_of_weights",
    "metric_table",
    "open_corpus_of",
    "open_data",
    "origin",
    "requests",
    "require_classes",
    "require_correlation",
    "require_inductive",
    "require_selectable",
    "run",
    "scratch_folder",
    "show",
    "stacked",
    "train_form",
    "validation_figures",
]
