"""What a model's reference is worth: ranking by scores and by standard scores, and which sounds count as unfamiliar.

python -m benchmarks.reference runs/ravdess-base ravdess:../shared/corpora/ravdess nemo:../shared/corpora/nemo
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from cache.store import FeatureStore
from emonet import EmotionPipeline
from emonet.audio import decode, open_perturbations, perturb
from emonet.checkpoints import LoadedBank, load_banks, read_calibration, read_info
from emonet.corpora import open_corpus
from emonet.inference import strongest_first
from emonet.targets import CLASSES
from emonet.windows import SAMPLE_RATE

Sounds = list[np.ndarray]
TOGETHER = 64  # clips read at once
PERTURBED = ("reverberation:0.6", "telephone:8000", "gsm", "mp3:16", "opus:6", "white_noise:10", "babble:0")


def named(run: Path) -> dict[str, float]:
    """Ranking -> share of validation clips whose acted class comes first, of those that have an expert."""
    store, experts = FeatureStore.open(run / "store.zarr"), run / "heads"
    info, (bank,) = read_info(experts), load_banks(experts)
    calibration, spec, rows = read_calibration(experts), info.target_spec, store.rows("validation")
    if info.population is None:
        sys.exit(f"{experts} has no reference population: emonet heads --force")
    with torch.inference_mode():
        parts = [rows[start : start + TOGETHER] for start in range(0, len(rows), TOGETHER)]
        scores = np.concatenate([_scores(store, bank, some) for some in parts])
    if calibration is not None:
        scores = calibration.apply(scores, spec.ids)
    hits: dict[str, list[bool]] = {"score": [], "z": []}
    for row, label in zip(scores.tolist(), store.labels(rows), strict=True):
        acted = info.classes.get(label) if label is not None else None
        if acted is None:
            continue
        given = dict(zip(spec.ids, row, strict=True))
        for ranking, above in {"score": None, "z": info.population.standardised(given)}.items():
            hits[ranking].append(next(iter(strongest_first(given, spec, above))) == acted)
    return {f"{ranking}, {len(some)} clips": float(np.mean(some)) for ranking, some in hits.items()}


def _scores(store: FeatureStore, bank: LoadedBank, rows: np.ndarray) -> np.ndarray:
    states, heard = torch.from_numpy(store.read(rows)), torch.from_numpy(store.speech_frames(rows))
    found: np.ndarray = bank.scores(states, heard, pooled=store.pooled).mean(2).numpy()
    return found


def sounds(corpus: str, others: Sequence[str], seconds: float, most: int) -> Iterator[tuple[str, Sounds]]:
    """Kinds of sound, and some of each."""
    test = _clips(corpus, seconds, most, "test")
    yield f"{corpus.partition(':')[0]}, test clips", test
    for other in others:
        yield other.partition(":")[0], _clips(other, seconds, most)
    for one in open_perturbations(PERTURBED):
        yield f"test clips, {one.kind.label} {one.shown}", [perturb(clip, one, seed=0) for clip in test]
    rng, samples = np.random.default_rng(0), round(seconds * SAMPLE_RATE)
    time = np.arange(samples) / SAMPLE_RATE
    yield "noise", [(level * rng.normal(0, 1, samples)).astype(np.float32) for level in np.geomspace(0.001, 0.2, 10)]
    yield "silence", [(level * rng.normal(0, 1, samples)).astype(np.float32) for level in (0, 1e-6, 1e-5, 1e-4)]
    pitches = np.geomspace(60, 4000, 10)
    yield "tones", [(0.2 * np.sin(2 * np.pi * pitch * time)).astype(np.float32) for pitch in pitches]
    yield "chords", [_chords(time, rng) for _ in range(10)]


def _chords(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Triads that are struck twice a second, each tone with six harmonics: a synthetic piano."""
    struck, played = (2 * time).astype(int), np.zeros_like(time)
    roots = rng.choice([130.8, 146.8, 164.8, 174.6, 196.0, 220.0], struck[-1] + 1)  # Hz: C to A
    for ratio in (1.0, 1.25, 1.5):
        for harmonic in range(1, 7):
            played += np.sin(2 * np.pi * roots[struck] * ratio * harmonic * time) / harmonic**1.5
    loud: np.ndarray = (0.1 * played * np.exp(-6 * (time - struck / 2))).astype(np.float32)
    return loud


def _clips(corpus: str, seconds: float, most: int, split: str | None = None) -> Sounds:
    every = [clip for clip in open_corpus(corpus, targets=CLASSES).clips if split in (None, clip.split)]
    chosen = np.linspace(0, len(every) - 1, min(most, len(every))).round().astype(int)
    return [decode(every[place].audio, seconds=seconds).samples for place in chosen]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What a model's reference is worth.")
    parser.add_argument("run", type=Path, help="folder of an experiment, e.g. runs/ravdess-base")
    parser.add_argument("corpus", help="that it was trained on, e.g. ravdess:PATH")
    parser.add_argument("others", nargs="*", help="other corpora")
    parser.add_argument("--most", type=int, default=120, help="clips of a corpus (count)")
    flags = parser.parse_args(arguments)
    console = Console(width=120)
    for ranking, share in named(flags.run).items():
        console.print(f"the acted class comes first, ranked by {ranking}: {share:.3f}")
    pipeline = EmotionPipeline.from_folder(flags.run / "voice")
    table = Table("sounds", "clips", "unfamiliar", "median")
    for kind, some in sounds(flags.corpus, flags.others, pipeline.encoder.window.seconds, flags.most):
        batches = (pipeline.score_samples(some[start : start + 8]) for start in range(0, len(some), 8))
        far = np.array([one.unfamiliarity for batch in batches for one in batch], np.float64)
        table.add_row(kind, str(len(far)), f"{100 * (far > 1).mean():.0f} %", f"{np.median(far):.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
