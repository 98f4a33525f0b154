from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from cache.record import ExtractionRecord
from cache.store import FeatureStore
from datamodules.states import StateDataModule
from emonet.configs import InputForm
from emonet.inputs import InputSpec
from emonet.targets import EMOTIONS

FRAMES, WIDTH = 6, 3
SPLITS = ["train"] * 20 + ["validation"] * 5 + ["test"] * 5


class ArrayStore(FeatureStore):
    """A store whose states lie in memory, and that counts how often they are read."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        clips = len(SPLITS)
        table: dict[str, Any] = {
            "id": [f"c/{row}" for row in range(clips)],
            "split": SPLITS,
            "speech_frames": rng.integers(1, FRAMES + 1, clips),
            "failed": [None] * clips,
        }
        scores = rng.integers(0, 5, (clips, len(EMOTIONS))).astype(np.float32)
        table |= {target: scores[:, column] for column, target in enumerate(EMOTIONS.ids)}
        table["failed"][3] = "0 bytes"
        record = ExtractionRecord(
            corpus="made", corpus_fingerprint="f", clips=clips, encoder="none", encoder_digest="d",
            window_seconds=FRAMES / 50, frames=FRAMES, width=WIDTH, mels=80, precision="float32", batch_size=1,
            shard_clips=8,
        )  # fmt: skip
        super().__init__(Path("nowhere.zarr"), record, EMOTIONS, "", "x", pd.DataFrame(table))
        self.states = rng.normal(0, 1, (clips, FRAMES, WIDTH)).astype(np.float16)
        self.read_rows: list[int] = []

    def read(self, rows: Any) -> np.ndarray:
        self.read_rows += np.asarray(rows).tolist()
        return self.states[np.asarray(rows)]


def module_of(
    store: ArrayStore, form: InputForm = "statistics", *, memory_gib: float = 1.0, seed: int = 0
) -> StateDataModule:
    spec = InputSpec(form, "speech", FRAMES, WIDTH)
    return StateDataModule(store, spec, ["anger", "fear"], batch_size=8, seed=seed, memory_gib=memory_gib)


@pytest.mark.parametrize("form", ["flatten", "statistics", "attention"])
def test_streaming_and_memory_give_the_same_batches(form: InputForm) -> None:
    kept, streamed = module_of(ArrayStore(), form), module_of(ArrayStore(), form, memory_gib=1e-9)
    assert (kept.in_memory, streamed.in_memory) == (True, False)
    for mine, theirs in zip(kept.train_dataloader(), streamed.train_dataloader(), strict=True):
        assert torch.equal(mine.scores, theirs.scores)
        assert torch.equal(mine.features.values, theirs.features.values)
        assert torch.equal(mine.features.lengths, theirs.features.lengths)
    assert torch.equal(kept.scaling().scale, streamed.scaling().scale)


def test_memory_reads_the_store_once() -> None:
    store = ArrayStore()
    data = module_of(store)
    for _ in range(3):
        list(data.train_dataloader())
        list(data.val_dataloader())
    data.scaling()
    assert sorted(store.read_rows) == [row for row in range(25) if row != 3]


def test_an_epoch_has_every_usable_training_clip_once_in_a_new_order() -> None:
    store = ArrayStore()
    data = module_of(store, "flatten")
    rows = [row for row in range(20) if row != 3]
    expected = store.scores(rows)[:, [EMOTIONS.index("anger"), EMOTIONS.index("fear")]]
    epochs = [torch.cat([batch.scores for batch in data.train_dataloader()]).numpy() for _ in range(2)]
    for epoch in epochs:
        assert sorted(epoch.tolist()) == sorted(expected.tolist())
    assert not np.array_equal(*epochs)
    again = torch.cat([batch.scores for batch in module_of(ArrayStore(), "flatten").train_dataloader()]).numpy()
    np.testing.assert_array_equal(again, epochs[0])
    other = torch.cat([batch.scores for batch in module_of(ArrayStore(), seed=1).train_dataloader()]).numpy()
    assert not np.array_equal(other, epochs[0])


def test_features_and_scores_belong_together() -> None:
    store = ArrayStore()
    data = module_of(store, "flatten")
    rows = store.rows("train")
    flat = torch.from_numpy(store.states[rows]).flatten(1)
    scores = torch.from_numpy(store.scores(rows)[:, [EMOTIONS.index("anger"), EMOTIONS.index("fear")]])
    for batch in data.train_dataloader():
        for values, score in zip(batch.features.values, batch.scores, strict=True):
            row = int((flat == values).all(1).nonzero())
            assert torch.equal(score, scores[row])


def test_validation_and_test_come_in_order() -> None:
    store = ArrayStore()
    data = module_of(store, "attention")
    found = torch.cat([batch.features.values for batch in data.val_dataloader()])
    assert torch.equal(found, torch.from_numpy(store.states[20:25]))
    test = torch.cat([features.values for features in data.dataset("test").in_order()])
    assert torch.equal(test, torch.from_numpy(store.states[25:]))
