from .emodb import EMODB, open_emodb
from .ravdess import RAVDESS, open_ravdess

__all__ = [
    "EMODB",
    "RAVDESS",
    "open_emodb",
    "open_ravdess",
]
