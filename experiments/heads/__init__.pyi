from .forms import HeadsData, best_of, digest_of_weights, open_corpus_of, open_data, scratch_folder, train_forms
from .learnable import require_correlation
from .table import metric_table, stacked
from .verb import run, show

__all__ = [
    "HeadsData",
    "best_of",
    "digest_of_weights",
    "metric_table",
    "open_corpus_of",
    "open_data",
    "require_correlation",
    "run",
    "scratch_folder",
    "show",
    "stacked",
    "train_forms",
]
