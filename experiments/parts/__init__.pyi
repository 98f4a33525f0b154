from .verb import run, show

__all__ = [
    "run",
    "show",
]
