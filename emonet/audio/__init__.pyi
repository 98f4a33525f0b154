from .augment import SpecAugment, augment_waveform
from .decoders import Decoders, processors, shared_decoders
from .decoding import ALL_SILENT, OVERRUN, SHORTEST, AudioInfo, Decoded, decode, probe, too_short
from .excerpts import Excerpt
from .formats import AUDIO, READ
from .inside import audio_bytes
from .logmel import DYNAMIC_RANGE, FLOOR, LogMel, pad
from .mixing import Mixer
from .notices import Notice, NoticeKind, sound_notices
from .perturbations.codecs import as_wav
from .perturbations.kinds import PERTURBATION_VERSION, PERTURBATIONS, Perturbation, open_perturbations, perturb
from .scale import to_full_scale
from .source import RATES
from .speech_levels import estimated_snr, speech_level
from .streams.blocks import Block, stream_blocks

__all__ = [
    "ALL_SILENT",
    "AUDIO",
    "DYNAMIC_RANGE",
    "FLOOR",
    "OVERRUN",
    "PERTURBATIONS",
    "PERTURBATION_VERSION",
    "RATES",
    "READ",
    "SHORTEST",
    "AudioInfo",
    "Block",
    "Decoded",
    "Decoders",
    "Excerpt",
    "LogMel",
    "Mixer",
    "Notice",
    "NoticeKind",
    "Perturbation",
    "SpecAugment",
    "as_wav",
    "audio_bytes",
    "augment_waveform",
    "decode",
    "estimated_snr",
    "open_perturbations",
    "pad",
    "perturb",
    "probe",
    "processors",
    "shared_decoders",
    "sound_notices",
    "speech_level",
    "stream_blocks",
    "to_full_scale",
    "too_short",
]
