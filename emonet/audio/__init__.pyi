from .augment import SpecAugment, augment_waveform
from .codecs import as_wav
from .decoders import Decoders, processors, shared_decoders
from .decoding import SHORTEST, AudioInfo, Decoded, decode, probe, too_short
from .excerpts import Excerpt
from .formats import AUDIO, READ
from .logmel import LogMel, pad
from .notices import Notice, NoticeKind
from .perturbations import PERTURBATION_VERSION, PERTURBATIONS, Perturbation, PerturbationKind, perturb, perturbations
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
    "PerturbationKind",
    "SpecAugment",
    "as_wav",
    "augment_waveform",
    "decode",
    "estimated_snr",
    "pad",
    "perturb",
    "perturbations",
    "probe",
    "processors",
    "shared_decoders",
    "speech_level",
    "too_short",
]
