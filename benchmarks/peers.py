"""What people write today to keep Whisper's encoder states of many clips, each as they would write it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear
from transformers import WhisperFeatureExtractor, WhisperModel

from benchmarks.rows import seconds_of
from emonet.audio import decode
from emonet.clips import Clip
from emonet.windows import PRETRAINED_SECONDS, SAMPLE_RATE

Peer = Callable[[Sequence[Clip], Path], None]  # writes one .npz per clip into a folder
PROBE_CLIPS = 2
SQUARES = (1024, 1536, 2048)
BURST = 0.25  # seconds of each shape in a round


def with_transformers(captioner: Path, device: torch.device, *, dtype: torch.dtype, batch_size: int) -> Peer:
    """`WhisperFeatureExtractor`, `WhisperModel.encoder` and `np.savez`.

    Args:
        captioner: folder of a Whisper.
        device: where the encoder runs.
        dtype: of its weights and arithmetic.
        batch_size: clips per pass (count).
    """
    encoder: Any = WhisperModel.from_pretrained(captioner).to(device, dtype).eval().encoder

    def run(clips: Sequence[Clip], folder: Path) -> None:
        for first in range(0, len(clips), batch_size):
            features = torch.from_numpy(_features(clips[first : first + batch_size])).to(device, dtype)
            with torch.inference_mode():
                states: Tensor = encoder(features).last_hidden_state
            _save(states.half().cpu().numpy(), folder, first)

    return run


def with_ctranslate2(captioner: Path, folder: Path, clips: Sequence[Clip]) -> tuple[str, Peer, dict[str, float]]:
    """CTranslate2's `Whisper.encode` in whichever of its types is fastest on this processor.

    Args:
        captioner: folder of a Whisper.
        folder: for the converted model.
        clips: the first of them are tried in each type.

    Returns:
        The type, the peer, and the seconds per clip that each type took.
    """
    import ctranslate2

    ctranslate2.converters.TransformersConverter(str(captioner)).convert(str(folder / "converted"))

    def peer(compute_type: str) -> Peer:
        model = ctranslate2.models.Whisper(
            str(folder / "converted"), device="cpu", compute_type=compute_type, intra_threads=torch.get_num_threads()
        )

        def run(clips: Sequence[Clip], folder: Path) -> None:
            for position, clip in enumerate(clips):
                features = ctranslate2.StorageView.from_array(_features([clip]))
                _save(np.asarray(model.encode(features)).astype(np.float16), folder, position)

        return run

    taken, some = {}, clips[:PROBE_CLIPS]
    for compute_type in sorted(ctranslate2.get_supported_compute_types("cpu")):
        run = peer(compute_type)
        run(some[:1], folder)
        taken[compute_type] = round(seconds_of(partial(run, some, folder)) / len(some), 4)
    best = min(taken, key=taken.__getitem__)
    return best, peer(best), taken


class MatmulRate:
    """How fast this machine multiplies matrices: of the encoder's shapes and of square ones, the best.

    Args:
        device: where.
        dtype: of the factors.
        frames: rows of the encoder's products.
        width: of the encoder's states; feed-forward layers are four times as wide, as in every Whisper.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, *, frames: int, width: int) -> None:
        self._device, hidden = device, 4 * width
        shapes = [(frames, width, width), (frames, width, hidden), (frames, hidden, width), (frames, 64, frames)]
        scale = 8 if device.type == "cuda" else 1  # a GPU has to be filled
        shapes += [(size * scale,) * 3 for size in SQUARES]
        self._factors = {
            (m, k, n): tuple(torch.randn(shape, device=device).to(dtype) for shape in ((m, k), (n, k)))
            for m, k, n in shapes
        }
        self._rates: dict[tuple[int, int, int], list[float]] = {shape: [] for shape in self._factors}

    def measure(self) -> None:
        """One more figure for each shape, over a quarter of a second."""
        for shape, (left, right) in self._factors.items():
            repeats = max(1, round(BURST / self._seconds(left, right, 1)))
            operations = 2 * shape[0] * shape[1] * shape[2] * repeats
            self._rates[shape].append(operations / self._seconds(left, right, repeats))

    @property
    def best(self) -> float:
        """Of the shapes' medians, the best (FLOP/s)."""
        return max(self.medians().values())

    def medians(self) -> dict[str, float]:
        """Of each shape (FLOP/s)."""
        return {"x".join(map(str, shape)): statistics.median(rates) for shape, rates in self._rates.items()}

    def _seconds(self, left: Tensor, right: Tensor, repeats: int) -> float:
        def multiply() -> None:
            with torch.inference_mode():
                for _ in range(repeats):
                    linear(left, right)
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)

        return seconds_of(multiply)


def _features(clips: Sequence[Clip]) -> np.ndarray:
    """Log-mel of a batch, as the feature extractor computes it, shape (clips, mels, mel_frames)."""
    heard = [decode(one.audio, start=one.start, end=one.end, seconds=PRETRAINED_SECONDS).samples for one in clips]
    extracted = WhisperFeatureExtractor()(heard, sampling_rate=SAMPLE_RATE, return_tensors="np")
    features: np.ndarray = extracted.input_features
    return features


def _save(states: np.ndarray, folder: Path, first: int) -> None:
    for position, one in enumerate(states, first):
        np.savez(folder / f"{position}.npz", states=one)
