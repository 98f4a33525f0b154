from .corpus import SPLITS, Clip, Corpus, Rejection, Split, join
from .folds import Fold, Folds, HeldOut, check_folds, deal_folds, folds_of, hold_out, leave_one_out, number_of
from .leaks import person

__all__ = [
    "SPLITS",
    "Clip",
    "Corpus",
    "Fold",
    "Folds",
    "HeldOut",
    "Rejection",
    "Split",
    "check_folds",
    "deal_folds",
    "folds_of",
    "hold_out",
    "join",
    "leave_one_out",
    "number_of",
    "person",
]
