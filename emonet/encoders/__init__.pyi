from .hub import file_digest, locate, require_window, weights_identity, wrong_window
from .whisper import FrozenEncoder

__all__ = [
    "FrozenEncoder",
    "file_digest",
    "locate",
    "require_window",
    "weights_identity",
    "wrong_window",
]
