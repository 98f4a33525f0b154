"""Audio in: recordings of any kind become 16 kHz mono with notices about what is odd, in processes of their own."""

from emonet.audio.decode import SHORTEST, AudioInfo, Decoded, decode, probe, too_short
from emonet.audio.decoders import Decoders, Excerpt, processors, shared_decoders
from emonet.audio.notices import Notice, NoticeKind

__all__ = [
    "SHORTEST",
    "AudioInfo",
    "Decoded",
    "Decoders",
    "Excerpt",
    "Notice",
    "NoticeKind",
    "decode",
    "probe",
    "processors",
    "shared_decoders",
    "too_short",
]
