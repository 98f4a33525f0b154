from .emodb import EMODB, open_emodb
from .nemo import NEMO, open_nemo
from .ravdess import RAVDESS, open_ravdess

__all__ = [
    "EMODB",
    "NEMO",
    "RAVDESS",
    "open_emodb",
    "open_nemo",
    "open_ravdess",
]
