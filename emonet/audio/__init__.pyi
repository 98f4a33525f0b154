from .augment import SpecAugment, augment_waveform
from .decoders import Decoders, processors, shared_decoders
from .decoding import SHORTEST, AudioInfo, Decoded, decode, probe, too_short
from .excerpts import Excerpt
from .formats import AUDIO, READ
from .logmel import LogMel, pad
from .notices import Notice, NoticeKind

__all__ = [
    "AUDIO",
    "READ",
    "SHORTEST",
    "AudioInfo",
    "Decoded",
    "Decoders",
    "Excerpt",
    "LogMel",
    "Notice",
    "NoticeKind",
    "SpecAugment",
    "augment_waveform",
    "decode",
    "pad",
    "probe",
    "processors",
    "shared_decoders",
    "too_short",
]
