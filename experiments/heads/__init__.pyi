from .classes import MAJORITY, classes_of, digest_of_labels, require_classes
from .forms import HeadsData, calibrated, digest_of_weights, open_corpus_of, open_data
from .learnable import require_correlation
from .selection import best_by_figures, require_inductive, require_selectable, validation_figures
from .table import metric_table, stacked
from .verb import run, show

__all__ = [
    "MAJORITY",
    "HeadsData",
    "best_by_figures",
    "calibrated",
    "classes_of",
    "digest_of_labels",
    "digest_of_weights",
    "metric_table",
    "open_corpus_of",
    "open_data",
    "require_classes",
    "require_correlation",
    "require_inductive",
    "require_selectable",
    "run",
    "show",
    "stacked",
    "validation_figures",
]
