from .base import Encoder, ReadyEncoder
from .hub import file_digest, locate, too_long, weights_identity
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
    "too_long",
    "weights_identity",
]
