"""The voice model, the sound and the recordings that `benchmarks.use` works with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
import torch

from benchmarks.extract import save_captioner
from benchmarks.surroundings import whisper_base
from emonet.audio import decode
from emonet.checkpoints import ExpertsInfo, write_experts
from emonet.configs import HIDDEN, Layers
from emonet.encoders import FrozenEncoder, inner_layers
from emonet.experts import ExpertBank, InputSpec
from emonet.inference import assemble
from emonet.targets import EMOTIONS
from emonet.timelines import Mode
from emonet.windows import SAMPLE_RATE

WINDOW = 6.0  # seconds
BASE = {"width": 512, "layers": 6}  # Whisper base
_SPEECH = Path("../shared/corpora/speech/jfk.flac")


def find_whisper(folder: Path) -> tuple[Path, str]:
    """Whisper base, and in words what it is; with random weights where the real ones are not there."""
    if (found := whisper_base()) is not None:
        return found, "Whisper base"
    return save_captioner(folder / "whisper", **BASE), "Whisper base's shape with random weights"


def make_voice(whisper: Path, folder: Path, *, window: float = WINDOW, layers: Layers = "middle") -> Path:
    """A voice model with some of the encoder's layers and 40 random experts, which cost what trained ones do."""
    FrozenEncoder.load(str(whisper), layers=layers, window_seconds=window, device="cpu").save(folder / "encoder")
    encoder = FrozenEncoder.load(str(folder / "encoder"), device="cpu")
    spec = InputSpec("moments", "speech", encoder.window.frames, encoder.width, layers=len(encoder.layers))
    bank = ExpertBank(spec, EMOTIONS.ids, HIDDEN["small"], seed=0)
    info = ExpertsInfo(
        targets=EMOTIONS.to_json(), form=spec.form, pool_over=spec.pool_over, queries=spec.queries,
        window_seconds=encoder.window.seconds, frames=spec.frames, width=spec.width, hidden=HIDDEN["small"],
        encoder_digest=encoder.digest, store_fingerprint="0" * 64, encoder_layers=inner_layers(encoder),
    )  # fmt: skip
    (folder / "experts").mkdir()
    write_experts(info, lambda position: dict(bank.tensors(position)), folder / "experts")
    return assemble(folder / "encoder", folder / "experts", folder / "voice")


@dataclass(frozen=True)
class Sound:
    """What the recordings are made of.

    Args:
        samples: at 16 kHz.
        name: what it is, in words.
        mode: how its timeline is cut.
    """

    samples: np.ndarray
    name: str
    mode: Mode


def find_speech() -> Sound:
    """Some seconds of speech, or what stands for it."""
    if _SPEECH.is_file():
        return Sound(decode(_SPEECH).samples, f"{_SPEECH.name}, again and again", "speech")
    moments = np.arange(11 * SAMPLE_RATE) / SAMPLE_RATE
    noise = np.random.default_rng(0).normal(0, 0.02, len(moments))
    tones = 0.3 * np.sin(2 * np.pi * 180 * moments) * np.sin(4 * moments) + noise
    return Sound(tones.astype(np.float32), "tones in noise", "sliding")


def write_hours(speech: np.ndarray, seconds: float, path: Path) -> Path:
    """A recording that has its speech again and again, as 16-bit WAV at 16 kHz."""
    left = round(seconds * SAMPLE_RATE)
    with sf.SoundFile(path, "w", SAMPLE_RATE, 1, "PCM_16", format="RF64") as file:
        while left > 0:
            file.write(speech[:left])
            left -= len(speech)
    return path


def threads() -> int:
    """Of torch's arithmetic (count)."""
    return int(torch.get_num_threads())
