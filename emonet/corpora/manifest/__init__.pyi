from .cells import as_name
from .finding import at, exists
from .probing import probed, require_clips
from .reader import open_manifest

__all__ = [
    "as_name",
    "at",
    "exists",
    "open_manifest",
    "probed",
    "require_clips",
]
