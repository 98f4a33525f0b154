from .cells import as_name
from .finding import path_exists, unspelled
from .probing import probed, require_clips
from .reader import open_manifest

__all__ = [
    "as_name",
    "open_manifest",
    "path_exists",
    "probed",
    "require_clips",
    "unspelled",
]
