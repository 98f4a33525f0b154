from .verbs import main

__all__ = [
    "main",
]
