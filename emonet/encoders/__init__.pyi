from .base import Encoder, ReadyEncoder
from .hub import file_digest, locate, require_window, weights_identity, wrong_window
from .plugged import open_encoder, read_note
from .whisper import FrozenEncoder

__all__ = [
    "Encoder",
    "FrozenEncoder",
    "ReadyEncoder",
    "file_digest",
    "locate",
    "open_encoder",
    "read_note",
    "require_window",
    "weights_identity",
    "wrong_window",
]
