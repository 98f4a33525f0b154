from .classes import MAJORITY, digest_of_labels, require_classes, unweighted_accuracy
from .forms import digest_of_weights, open_corpus_of, open_data
from .learnable import require_correlation
from .selection import best_form, require_selectable
from .table import metric_table, stacked
from .verb import run, show

__all__ = [
    "MAJORITY",
    "best_form",
    "digest_of_labels",
    "digest_of_weights",
    "metric_table",
    "open_corpus_of",
    "open_data",
    "require_classes",
    "require_correlation",
    "require_selectable",
    "run",
    "show",
    "stacked",
    "unweighted_accuracy",
]
