from .corpus import SPLITS, Clip, Corpus, Rejection, Split, join
from .leaks import person

__all__ = [
    "SPLITS",
    "Clip",
    "Corpus",
    "Rejection",
    "Split",
    "join",
    "person",
]
