from .audio import Audio, AudioCell, AudioRange, content_key, located
from .audio_column import AudioColumn, Places
from .clip import SPLITS, Clip, Rejection, Split
from .coded import Coded
from .columns import ClipColumns, GatheredClips
from .corpus import Corpus, join
from .folds import Fold, Folds, HeldOut, check_folds, deal_folds, folds_of, hold_out, leave_one_out, number_of
from .given import Given
from .leaks import person
from .sequence import Clips, values_of
from .sources import GONE, Sources, listing_of, stamp_of

__all__ = [
    "GONE",
    "SPLITS",
    "Audio",
    "AudioCell",
    "AudioColumn",
    "AudioRange",
    "Clip",
    "ClipColumns",
    "Clips",
    "Coded",
    "Corpus",
    "Fold",
    "Folds",
    "GatheredClips",
    "Given",
    "HeldOut",
    "Places",
    "Rejection",
    "Sources",
    "Split",
    "check_folds",
    "content_key",
    "deal_folds",
    "folds_of",
    "hold_out",
    "join",
    "leave_one_out",
    "listing_of",
    "located",
    "number_of",
    "person",
    "stamp_of",
    "values_of",
]
