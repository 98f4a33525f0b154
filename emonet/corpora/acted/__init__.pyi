from .emodb import open_emodb
from .ravdess import open_ravdess

__all__ = [
    "open_emodb",
    "open_ravdess",
]
