from .classes import MAJORITY, digest_of_labels, require_classes, unweighted_accuracy
from .forms import HeadsData, best_of, digest_of_weights, open_corpus_of, open_data, scratch_folder, train_forms
from .learnable import require_correlation
from .table import metric_table, stacked
from .verb import run, show

__all__ = [
    "MAJORITY",
    "HeadsData",
    "best_of",
    "digest_of_labels",
    "digest_of_weights",
    "metric_table",
    "open_corpus_of",
    "open_data",
    "require_classes",
    "require_correlation",
    "run",
    "scratch_folder",
    "show",
    "stacked",
    "train_forms",
    "unweighted_accuracy",
]
