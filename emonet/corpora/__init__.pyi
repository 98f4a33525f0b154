from .acted.emodb import open_emodb
from .acted.genders import gender_of
from .acted.nemo import open_nemo
from .acted.ravdess import open_ravdess
from .clip_names import ClipNames
from .fold_files import open_folds
from .labels import as_prototypes, read_mapping
from .manifest import open_manifest, open_tars, path_exists, unspelled
from .manifest.recordings import read_recordings
from .opening import open_corpus
from .sandbox import open_sandbox
from .snapshots import is_true, open_kept
from .sounds import NOTHING_HEARD, SHOWN, SoundReport, Sounds, contents, listen, packed_content, refuse_copies
from .summary import CorpusReport, describe

__all__ = [
    "NOTHING_HEARD",
    "SHOWN",
    "ClipNames",
    "CorpusReport",
    "SoundReport",
    "Sounds",
    "as_prototypes",
    "contents",
    "describe",
    "gender_of",
    "is_true",
    "listen",
    "open_corpus",
    "open_emodb",
    "open_folds",
    "open_kept",
    "open_manifest",
    "open_nemo",
    "open_ravdess",
    "open_sandbox",
    "open_tars",
    "packed_content",
    "path_exists",
    "read_mapping",
    "read_recordings",
    "refuse_copies",
    "unspelled",
]
