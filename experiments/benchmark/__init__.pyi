from .verb import BenchmarkResult, corpora, fairness, robustness, run, show, show_corpora

__all__ = ["BenchmarkResult", "corpora", "fairness", "robustness", "run", "show", "show_corpora"]
