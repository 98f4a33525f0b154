from .emodb import EMODB
from .format import open_acted
from .nemo import NEMO
from .ravdess import RAVDESS

__all__ = [
    "EMODB",
    "NEMO",
    "RAVDESS",
    "open_acted",
]
