"""Hours of audio: a timeline in a process of its own, its speed and memory; windows as people score them."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import soundfile as sf
import torch

from emonet import EmotionPipeline
from emonet.errors import EmonetError
from emonet.timelines import Mode, ScoredSegment, TimelineOptions, journal_of, timeline_key, timeline_of
from emonet.windows import PRETRAINED_SECONDS, SAMPLE_RATE
from experiments.core import progress

Scoring = Callable[[list[np.ndarray]], object]


@dataclass(frozen=True)
class Hours:
    """What came of a recording's timeline.

    Args:
        audio_s: of the recording (seconds).
        segments: that were scored (count).
        first_s: from the call to the first scores, the model loaded (seconds).
        seconds: that the timeline took, the model loaded.
        peak: the most memory that its process held, by the kernel's count (bytes).
    """

    audio_s: float
    segments: int
    first_s: float
    seconds: float
    peak: int

    @property
    def factor(self) -> float:
        """Seconds per second of audio."""
        return self.seconds / self.audio_s


def some_windows(path: Path, seconds: float, count: int) -> list[np.ndarray]:
    """The first windows of a recording at 16 kHz, one behind the other."""
    with sf.SoundFile(path) as file:
        return list(islice(file.blocks(round(seconds * SAMPLE_RATE), dtype="float32"), count))


def plain(whisper: Path) -> Scoring:
    """Emotion per window as people write it: transformers' features and encoder, the mean state, a linear head.

    Each window is padded to the 30 s that `WhisperFeatureExtractor` makes of it, and goes alone.
    """
    from transformers import WhisperFeatureExtractor, WhisperModel

    extractor: Any = WhisperFeatureExtractor()
    encoder: Any = WhisperModel.from_pretrained(whisper).float().eval().encoder
    assert extractor.n_samples == PRETRAINED_SECONDS * SAMPLE_RATE
    head = torch.nn.Linear(encoder.config.d_model, 40)

    def score(sounds: list[np.ndarray]) -> list[list[float]]:
        found = []
        for sound in sounds:
            features = extractor(sound, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
            with torch.inference_mode():
                found.append(head(encoder(features).last_hidden_state.mean(1))[0].tolist())
        return found

    return score


def timed_timeline(pipeline: EmotionPipeline, path: Path, folder: Path, mode: Mode) -> Hours:
    """Make a recording's timeline as `emonet timeline` does, with a journal, and see what it takes.

    Args:
        pipeline: the model.
        path: of the recording.
        folder: for the journal.
        mode: how it is cut.
    """
    said: list[float] = []

    def tell(_: tuple[ScoredSegment, ...]) -> None:
        said.append(time.perf_counter())

    options = TimelineOptions(mode=mode)
    started = time.perf_counter()
    with (
        journal_of(folder / "journal.jsonl", timeline_key(pipeline, path, options)) as journal,
        progress(path.stem, "seconds") as shown,
    ):
        found = timeline_of(pipeline, path, options, journal=journal, progress=shown, tell=tell)
    taken = time.perf_counter() - started
    if found.error is not None or not said:
        raise EmonetError("the timeline is not whole", where=path, found=found.error or "no segment")
    return Hours(found.seconds, len(found.segments), said[0] - started, taken, _peak())


def in_a_process(voice: Path, path: Path, mode: Mode) -> Hours:
    """The same in a process of its own, which has held nothing else."""
    command = [sys.executable, "-m", "benchmarks.use_hours", str(voice), str(path), mode]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise EmonetError("the process that makes the timeline failed", where=path, found=done.returncode)
    return Hours(**json.loads(done.stdout))


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _child(voice: Path, path: Path, mode: Mode) -> Hours:
    with tempfile.TemporaryDirectory() as scratch:
        return timed_timeline(EmotionPipeline.from_folder(voice, device="cpu"), path, Path(scratch), mode)


if __name__ == "__main__":
    print(json.dumps(asdict(_child(Path(sys.argv[1]), Path(sys.argv[2]), cast("Mode", sys.argv[3])))))
