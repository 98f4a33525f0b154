"""What the parts of the GPU check work with: how much, on which device, and synthetic speech."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch

from benchmarks.gpu_limits import Limits
from emonet.clips import Clip, Corpus
from emonet.experts import InputSpec
from emonet.runtime import Arithmetic, generator, resolve_precision
from emonet.targets import EMOTIONS
from emonet.windows import SAMPLE_RATE, Window

LIMITS = "rates.json"  # what the first part leaves to the others
VOICES = 16  # recordings of the synthetic corpus, one speaker each; the last two are for validation
HELD_OUT = 2


@dataclass(frozen=True)
class Scale:
    """How much is done.

    Args:
        clips: of the extraction (count).
        encoders: name -> width and layers.
        experts: in all (count).
        trained: of them, out of the store (count).
        batch: clips per step of the experts (count).
        captions: clips per step of the captioner (count).
        steps: that are measured (count).
        rounds: of the device's limits (count).
        copied: bytes of the copy that tells the memory's rate.
    """

    clips: int
    encoders: Mapping[str, tuple[int, int]]
    experts: int
    trained: int
    batch: int
    captions: int
    steps: int
    rounds: int
    copied: int


FULL = Scale(
    clips=2000, encoders={"base": (512, 6), "small": (768, 12)},
    experts=40, trained=8, batch=64, captions=32, steps=8, rounds=3, copied=4 << 30,
)  # fmt: skip
SMALL = Scale(
    clips=32, encoders={"base": (64, 1), "small": (64, 2)},
    experts=3, trained=2, batch=4, captions=2, steps=2, rounds=1, copied=1 << 24,
)  # fmt: skip
"""To try the check itself, on a processor."""


@dataclass(frozen=True)
class Setting:
    """What a part works with.

    Args:
        device: where.
        scale: how much.
        folder: for what parts leave to each other.
        base: folder of Whisper base, if there is one; else its shape with random weights.
        tests: files or folders of tests.
    """

    device: torch.device
    scale: Scale
    folder: Path
    base: Path | None = None
    tests: tuple[str, ...] = ("tests",)

    @property
    def limits(self) -> Limits:
        """As the first part measured them."""
        file = self.folder / LIMITS
        return Limits(**json.loads(file.read_text())) if file.is_file() else Limits({}, 0.0)

    @property
    def arithmetic(self) -> Arithmetic:
        """Of encoders and captioners here."""
        return resolve_precision("auto", self.device)

    @property
    def spec(self) -> InputSpec:
        """Flattened states of the last encoder."""
        width, _ = list(self.scale.encoders.values())[-1]
        return InputSpec("flatten", "all", Window().frames, width)

    def store(self, name: str) -> Path:
        """Where the states of an encoder lie."""
        return self.folder / f"{name}.zarr"


def synthetic_corpus(folder: Path) -> Corpus:
    """A few recordings of tones in noise, 2 to 9 s, rated at random; no network and no corpus is needed for them."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = []
    for voice in range(VOICES):
        draw = generator(0, "gpu check", voice)
        seconds = 2 + voice % 8
        time = np.arange(seconds * SAMPLE_RATE) / SAMPLE_RATE
        sound = 0.3 * np.sin(2 * np.pi * (120 + 9 * voice) * time) + 0.02 * draw.standard_normal(len(time))
        file = folder / f"{voice}.wav"
        soundfile.write(file, sound.astype(np.float32), SAMPLE_RATE)
        scores = {target: float(draw.uniform(0, 4)) for target in EMOTIONS.ids}
        split = "train" if voice < VOICES - HELD_OUT else "validation"
        name = f"synthetic/voice-{voice}"
        clips.append(Clip(f"{name}/0", file, name, split, scores=scores, seconds=float(seconds)))  # type: ignore[arg-type]
    return Corpus("synthetic", tuple(clips))
