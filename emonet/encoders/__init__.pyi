from .base import Encoder, Padded, ReadyEncoder
from .hub import file_digest, locate, too_long, weights_identity
from .layers import NarrowError, inner_layers
from .plugged import open_encoder, open_heard, read_note
from .whisper import FrozenEncoder
from .whisper_network import depth_of

__all__ = [
    "Encoder",
    "FrozenEncoder",
    "NarrowError",
    "Padded",
    "ReadyEncoder",
    "depth_of",
    "file_digest",
    "inner_layers",
    "locate",
    "open_encoder",
    "open_heard",
    "read_note",
    "too_long",
    "weights_identity",
]
