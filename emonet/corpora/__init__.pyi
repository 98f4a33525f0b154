from .acted.emodb import open_emodb
from .acted.genders import gender_of
from .acted.nemo import open_nemo
from .acted.ravdess import open_ravdess
from .clip_names import ClipNames
from .fold_files import open_folds
from .labels import as_prototypes, read_mapping
from .manifest import open_manifest, path_exists, unspelled
from .manifest.cells import as_name, as_number, is_missing
from .manifest.tables import read_rows
from .opening import open_corpus
from .sandbox import open_sandbox
from .sounds import NOTHING_HEARD, SHOWN, SoundReport, Sounds, contents, listen, refuse_copies
from .summary import CorpusReport, describe

__all__ = [
    "NOTHING_HEARD",
    "SHOWN",
    "ClipNames",
    "CorpusReport",
    "SoundReport",
    "Sounds",
    "as_name",
    "as_number",
    "as_prototypes",
    "contents",
    "describe",
    "gender_of",
    "is_missing",
    "listen",
    "open_corpus",
    "open_emodb",
    "open_folds",
    "open_manifest",
    "open_nemo",
    "open_ravdess",
    "open_sandbox",
    "path_exists",
    "read_mapping",
    "read_rows",
    "refuse_copies",
    "unspelled",
]
