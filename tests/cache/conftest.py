"""Corpora and encoders of a few kilobytes, and states without an encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from cache.extraction import extract
from cache.store import ExtractionRecord
from emonet.clips import SPLITS, Clip, Corpus
from emonet.configs import ExtractionConfig
from emonet.encoders import FrozenEncoder
from tests.cache.maintenance.damage import BROKEN, CLIPS, SHARD, Made, copied
from tests.tiny import write_encoder


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an encoder of 1 s: 50 states of width 32."""
    return write_encoder(tmp_path_factory.mktemp("encoder"), encoder_layers=2)


@pytest.fixture
def make_corpus(make_wav: Callable[..., Path]) -> Callable[..., Corpus]:
    """A corpus of tones; the positions in `broken` are files without samples."""

    def make(clips: int, broken: tuple[int, ...] = ()) -> Corpus:
        rows = []
        for row in range(clips):
            path = make_wav(f"audio/{row:03d}.wav", seconds=0.3 + 0.05 * (row % 20), hertz=120 + 10 * row)
            if row in broken:
                path.write_bytes(b"")
            split = SPLITS[row % 3]
            scores = {"anger": float(row % 5)} if row % 2 else {}
            rows.append(Clip(f"t/{row:03d}", path, f"t/{split}", split, language="en", scores=scores))
        return Corpus("tones", tuple(rows), note="tones, no speech")

    return make


@pytest.fixture
def make_record() -> Callable[..., ExtractionRecord]:
    """A record for stores that tests fill by hand."""

    def make(
        corpus: Corpus, *, frames: int = 50, width: int = 8, shard_clips: int = 4, **options: Any
    ) -> ExtractionRecord:
        return ExtractionRecord(
            corpus=corpus.name,
            corpus_fingerprint=corpus.fingerprint,
            clips=len(corpus),
            encoder="test",
            encoder_digest="d" * 64,
            window_seconds=frames / 50,
            frames=frames,
            width=width,
            mels=80,
            precision="float32",
            batch_size=2,
            shard_clips=shard_clips,
            **options,
        )

    return make


@pytest.fixture
def some_states() -> Callable[..., np.ndarray]:
    """Random float16 states that are neither zero nor missing."""

    def make(clips: int, frames: int = 50, width: int = 8, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).normal(0, 1, (clips, frames, width)).astype(np.float16)

    return make


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Ten tones, one of them a file without samples."""
    folder, clips = tmp_path_factory.mktemp("tones"), []
    for row in range(CLIPS):
        time = np.arange(round((0.3 + 0.07 * row) * 16_000)) / 16_000
        sf.write(folder / f"{row}.wav", 0.3 * np.sin(2 * np.pi * (120 + 30 * row) * time), 16_000)
        split = SPLITS[row % 3]
        clips.append(Clip(f"t/{row}", folder / f"{row}.wav", split, split, scores={"anger": float(row % 5)}))
    (folder / f"{BROKEN}.wav").write_bytes(b"")
    return Corpus("tones", tuple(clips))


@pytest.fixture(scope="session")
def whole(tones: Corpus, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Made]:
    """Extracts each kind of store once; pooled ones are of two layers and a shorter window."""
    made: dict[tuple[str, str, str], Made] = {}

    def make(codec: str = "lossless", frames: str = "all", pool: str = "none") -> Made:
        if (codec, frames, pool) not in made:
            given = {} if pool == "none" else {"layers": "all", "window_seconds": 0.6}
            encoder = FrozenEncoder.load(str(tiny_encoder), precision="float32", device="cpu", **given)
            path = tmp_path_factory.mktemp("whole") / "s.zarr"
            config = ExtractionConfig.model_validate(
                {"batch_size": 2, "shard_clips": SHARD, "codec": codec, "frames": frames, "pool": pool, "workers": 1}
            )
            extract(tones, encoder, path, config, source=str(tiny_encoder))
            made[codec, frames, pool] = Made(path, tones, encoder)
        return made[codec, frames, pool]

    return make


@pytest.fixture
def made(whole: Callable[..., Made], tmp_path: Path) -> Made:
    """A lossless store of the test's own."""
    return copied(whole(), tmp_path)
