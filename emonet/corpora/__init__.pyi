from .manifest import at, exists
from .opening import open_corpus
from .sounds import NOTHING_HEARD, SHOWN, SoundReport, Sounds, contents, listen, refuse_copies
from .summary import CorpusReport, describe

__all__ = [
    "NOTHING_HEARD",
    "SHOWN",
    "CorpusReport",
    "SoundReport",
    "Sounds",
    "at",
    "contents",
    "describe",
    "exists",
    "listen",
    "open_corpus",
    "refuse_copies",
]
