from .finding import path_exists, unspelled
from .probing import probed, require_clips
from .reader import open_manifest, open_tars
from .shards import are_same

__all__ = [
    "are_same",
    "open_manifest",
    "open_tars",
    "path_exists",
    "probed",
    "require_clips",
    "unspelled",
]
