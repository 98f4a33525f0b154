from .finding import at, exists
from .probing import probed, require_clips
from .reader import open_manifest

__all__ = [
    "at",
    "exists",
    "open_manifest",
    "probed",
    "require_clips",
]
