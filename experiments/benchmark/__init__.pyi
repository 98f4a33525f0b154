from .verb import BenchmarkResult, corpora, run, show, show_corpora

__all__ = ["BenchmarkResult", "corpora", "run", "show", "show_corpora"]
