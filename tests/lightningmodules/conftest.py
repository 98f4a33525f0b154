"""A feature store on disk whose states say what the scores are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from cache.store import ExtractionRecord, FeatureStore
from emonet.clips import Clip, Corpus, Split
from emonet.experts import statistics
from emonet.targets import EMOTIONS, TargetSpec

FRAMES, WIDTH = 25, 6
LAYERS = (2, 4, 6)  # of a layered store, whose second carries the scores


@pytest.fixture
def make_store(tmp_path: Path, fill_store: Callable[..., str]) -> Callable[..., FeatureStore]:
    """A store of random states; anger rises with the first value's mean, fear with the second's deviation.

    With `missing`, every second training clip has no score for fear. Targets `like_anger` have its scores. `layered`
    stores keep statistics of three layers of these, the outer two of noise.
    """

    def make(
        *,
        missing: bool = False,
        clips: tuple[int, int, int] = (160, 40, 40),
        seed: int = 0,
        targets: TargetSpec = EMOTIONS,
        like_anger: Sequence[str] = (),
        layered: bool = False,
    ) -> FeatureStore:
        rng = np.random.default_rng(seed)
        splits: list[Split] = ["train"] * clips[0] + ["validation"] * clips[1] + ["test"] * clips[2]
        truth = rng.integers(0, 5, (len(splits), 2)).astype(float)
        states = rng.normal(0, 1, (len(splits), FRAMES, WIDTH))
        states[:, :, 0] = 0.3 * states[:, :, 0] + truth[:, :1]
        states[:, :, 1] *= 0.2 + truth[:, 1:]
        if layered:
            noise = rng.normal(0, 1, states.shape)
            states = np.concatenate([noise, states, noise[::-1]], 2)
        rows = []
        for row, split in enumerate(splits):
            shares = {"anger": truth[row, 0] / 4, "fear": truth[row, 1] / 4}
            scores = {name: targets[name].low + share * (targets[name].high - targets[name].low)
                      for name, share in shares.items()}  # fmt: skip
            scores |= dict.fromkeys(like_anger, scores["anger"])
            if missing and split == "train" and row % 2:
                del scores["fear"]
            rows.append(Clip(f"c/{row}", b"x", f"{split}/{row % 6}", split, scores=scores))
        corpus = Corpus("made", tuple(rows), targets=targets)
        record = ExtractionRecord(
            corpus="made", corpus_fingerprint="f", clips=len(rows), encoder="none", encoder_digest="d",
            window_seconds=FRAMES / 50, frames=FRAMES, width=states.shape[2], mels=80, precision="float32", batch_size=1,
            shard_clips=64, **({"layers": LAYERS, "pool": "statistics"} if layered else {}),
        )  # fmt: skip
        if layered:
            heard = torch.full((len(rows),), FRAMES)
            states = statistics(torch.from_numpy(states), heard).view(len(rows), 4, -1).numpy()
        path = tmp_path / f"{missing}-{seed}-{len(targets)}-{layered}.zarr"
        fill_store(path, record, corpus, states.astype(np.float16), seconds=lambda row: FRAMES / 50)
        return FeatureStore.open(path)

    return make
