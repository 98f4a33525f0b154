from .base import Encoder, Padded, ReadyEncoder
from .hub import file_digest, folder_digest, locate, too_long, weights_identity
from .layers import NarrowError, inner_layers, resolve_layers
from .plugged import open_encoder, open_heard, read_note
from .whisper import FrozenEncoder
from .whisper_network import WhisperEncoder, depth_of

__all__ = [
    "Encoder",
    "FrozenEncoder",
    "NarrowError",
    "Padded",
    "ReadyEncoder",
    "WhisperEncoder",
    "depth_of",
    "file_digest",
    "folder_digest",
    "inner_layers",
    "locate",
    "open_encoder",
    "open_heard",
    "read_note",
    "resolve_layers",
    "too_long",
    "weights_identity",
]
