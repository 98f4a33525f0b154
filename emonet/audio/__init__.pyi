from .augment import SpecAugment, augment_waveform
from .decoders import Decoders, processors, shared_decoders
from .decoding import SHORTEST, AudioInfo, Decoded, decode, probe, too_short
from .excerpts import Excerpt
from .formats import AUDIO, READ
from .logmel import LogMel, pad
from .notices import Notice, NoticeKind
from .perturbations.codecs import as_wav
from .perturbations.kinds import PERTURBATION_VERSION, PERTURBATIONS, Perturbation, open_perturbations, perturb
from .speech_levels import estimated_snr, speech_level

__all__ = [
    "AUDIO",
    "PERTURBATIONS",
    "PERTURBATION_VERSION",
    "READ",
    "SHORTEST",
    "AudioInfo",
    "Decoded",
    "Decoders",
    "Excerpt",
    "LogMel",
    "Notice",
    "NoticeKind",
    "Perturbation",
    "SpecAugment",
    "as_wav",
    "augment_waveform",
    "decode",
    "estimated_snr",
    "open_perturbations",
    "pad",
    "perturb",
    "probe",
    "processors",
    "shared_decoders",
    "speech_level",
    "too_short",
]
