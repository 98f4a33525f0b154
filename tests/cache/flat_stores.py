"""Stores of flat states for tests of principal coordinates, and what these must be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache.principal import PrincipalStates, principal
from cache.principal.memory import GIB
from cache.store import ExtractionRecord, FeatureStore
from emonet.clips import Clip, Corpus, Split
from emonet.runtime import Progress, ignore

FRAMES, WIDTH = 50, 16
FEATURES = FRAMES * WIDTH
SPLITS: list[Split] = ["train", "train", "validation", "train", "test"] * 8
FAILED = {3: "0 bytes", 14: "0 bytes"}
ENOUGH = 1.0  # GiB
Fill = Callable[..., str]


@contextmanager
def nothing_shown(label: str, unit: str) -> Iterator[Progress]:
    yield ignore


def compute(store: FeatureStore, **options: Any) -> PrincipalStates:
    settings = {"standardise": True, "memory_gib": ENOUGH, "seed": 0, "show": nothing_shown}
    return principal(store, **{**settings, **options})


def record_of(clips: int, frames: int = FRAMES, width: int = WIDTH, **options: Any) -> ExtractionRecord:
    return ExtractionRecord(
        corpus="made", corpus_fingerprint="f", clips=clips, encoder="none", encoder_digest="d",
        window_seconds=frames / 50, frames=frames, width=width, mels=80, precision="float32", batch_size=1,
        shard_clips=8, **options,
    )  # fmt: skip


def made_states(clips: int, frames: int = FRAMES, width: int = WIDTH) -> np.ndarray:
    """States with a mean and a deviation for each feature, and a part that clips share."""
    random = np.random.default_rng(0)
    shared = random.normal(0, 1, (clips, 6)) @ random.normal(0, 1, (6, frames * width))
    values = 3 * random.normal(0, 1, frames * width) + random.uniform(0.2, 2, frames * width) * (
        shared + random.normal(0, 1, (clips, frames * width))
    )
    return values.reshape(clips, frames, width).astype(np.float16)


def fill(fill_store: Fill, path: Path, states: np.ndarray, splits: list[Split] = SPLITS) -> FeatureStore:
    clips = tuple(Clip(f"c/{row}", b"x", f"{split}/0", split) for row, split in enumerate(splits))
    record = record_of(*states.shape)
    fill_store(path, record, Corpus("made", clips), states, failed=FAILED if splits is SPLITS else {})
    return FeatureStore.open(path)


def oracle(store: FeatureStore, *, standardise: bool) -> np.ndarray:
    """Centred and scaled features of all clips in float64; NaN where a clip failed."""
    usable, train = store.rows(), store.rows("train")
    values = np.full((len(store), store.record.frames * store.record.width), np.nan)
    values[usable] = store.read(usable).reshape(len(usable), -1)
    values -= values[train].mean(0)
    if standardise:
        deviation = values[train].std(0)
        values /= np.maximum(deviation, 0.05 * np.median(deviation))
    return values


def memory_for(store: FeatureStore, clips: float) -> float:
    return clips * store.clip_bytes / GIB


def check_gram(states: PrincipalStates, *, standardise: bool, tolerance: float = 1e-5) -> None:
    """Coordinates have the inner products of the features, for training clips among themselves and for all with them."""
    store, unit = states.store, states.basis.unit
    features, coordinates = oracle(store, standardise=standardise), states.coordinates.astype(np.float64) * unit
    usable, train = store.rows(), store.rows("train")
    expected = features[usable] @ features[train].T
    found = coordinates[usable] @ coordinates[train].T
    np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())
    assert np.isnan(np.delete(coordinates, usable, axis=0)).all()
    assert np.mean(states.coordinates[train].astype(np.float64) ** 2) == pytest.approx(1, rel=1e-4)
    assert states.basis.total_energy == pytest.approx((features[train] ** 2).sum(), rel=1e-5)


def record_reads(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The rows of each call of `FeatureStore.read` since."""
    seen: list[list[int]] = []
    read = FeatureStore.read

    def recorded(store: FeatureStore, rows: Any, **options: Any) -> np.ndarray:
        seen.append(np.asarray(rows).tolist())
        return read(store, rows, **options)

    monkeypatch.setattr(FeatureStore, "read", recorded)
    return seen
