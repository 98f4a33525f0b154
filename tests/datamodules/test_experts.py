from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from cache.store import ExtractionRecord, FeatureStore
from datamodules.expert_inputs import read_inputs
from datamodules.experts import Batch, ExpertsDataModule, StreamedBatches
from emonet.clips import Clip, Corpus, Split
from emonet.configs import InputForm
from emonet.errors import RequestError
from emonet.experts import InputSpec
from emonet.targets import EMOTIONS, Classes, ClassLabels
from lightningmodules.guards import quiet

pytestmark = pytest.mark.numeric

FRAMES, WIDTH = 25, 3
SPLITS: list[Split] = ["train"] * 40 + ["validation"] * 5 + ["test"] * 5
FAILED = 3
TRAIN = [row for row in range(40) if row != FAILED]
COLUMNS = [EMOTIONS.index(target) for target in ("anger", "fear")]
NO_MEMORY = 1e-9  # GiB


def written(path: Path, fill_store: Callable[..., str], scores: Callable[[int], dict[str, float]]) -> FeatureStore:
    """Random states of 50 clips with these scores."""
    clips = tuple(Clip(f"c/{row}", b"x", f"{split}/0", split, scores=scores(row)) for row, split in enumerate(SPLITS))
    record = ExtractionRecord(
        corpus="made", corpus_fingerprint="f", clips=len(clips), encoder="none", encoder_digest="d",
        window_seconds=FRAMES / 50, frames=FRAMES, width=WIDTH, mels=80, precision="float32", batch_size=1,
        shard_clips=8,
    )  # fmt: skip
    states = np.random.default_rng(0).normal(0, 1, record.shape).astype(np.float16)
    fill_store(
        path, record, Corpus("made", clips), states, failed={FAILED: "0 bytes"}, seconds=lambda row: 0.1 + row / 200
    )
    return FeatureStore.open(path)


@pytest.fixture(scope="module")
def store(fill_store: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Random states; anger and fear together tell the row."""
    path = tmp_path_factory.mktemp("states") / "store.zarr"
    return written(path, fill_store, lambda row: {"anger": row % 7 / 2, "fear": row // 7 / 2})


@pytest.fixture
def read_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every row that `FeatureStore.read` has read since."""
    seen: list[int] = []
    read = FeatureStore.read

    def recorded(store: FeatureStore, rows: Any, **options: Any) -> np.ndarray:
        seen.extend(np.asarray(rows).tolist())
        return read(store, rows, **options)

    monkeypatch.setattr(FeatureStore, "read", recorded)
    return seen


def module_of(
    store: FeatureStore, form: InputForm = "statistics", *, memory_gib: float = 1.0, seed: int = 0
) -> ExpertsDataModule:
    spec = InputSpec(form, "speech", FRAMES, WIDTH)
    inputs = read_inputs(store, spec, memory_gib=memory_gib)
    return ExpertsDataModule(inputs, ["anger", "fear"], batch_size=8, seed=seed)


def epoch_of(data: ExpertsDataModule) -> list[list[float]]:
    return [scores for batch in data.train_dataloader() for scores in batch.scores.tolist()]


@pytest.mark.parametrize("form", ["flatten", "statistics", "attention"])
def test_streaming_and_memory_give_the_same_clips(store: FeatureStore, form: InputForm) -> None:
    kept, streamed = module_of(store, form), module_of(store, form, memory_gib=NO_MEMORY)
    assert (kept.inputs.in_memory, streamed.inputs.in_memory) == (True, False)
    clips = []
    for data in (kept, streamed):
        found = {}
        for features, scores, *_ in data.train_dataloader():
            for values, length, score in zip(*features, scores, strict=True):
                found[tuple(score.tolist())] = (length.item(), values.clone())
        clips.append(found)
    assert len(clips[0]) == len(TRAIN)
    assert clips[0].keys() == clips[1].keys()
    for key, (length, values) in clips[0].items():
        assert length == clips[1][key][0]
        assert torch.equal(values, clips[1][key][1])
    assert torch.equal(kept.inputs.scaling.scale, streamed.inputs.scaling.scale)


def test_memory_reads_the_store_once(store: FeatureStore, read_rows: list[int]) -> None:
    data = module_of(store)
    for _ in range(3):
        list(data.train_dataloader())
        list(data.val_dataloader())
    assert data.inputs.scaling is data.inputs.scaling
    assert sorted(read_rows) == [row for row in range(45) if row != FAILED]


def test_streaming_reads_each_clip_once_an_epoch(store: FeatureStore, read_rows: list[int]) -> None:
    data = module_of(store, memory_gib=NO_MEMORY)
    assert read_rows == []
    assert sum(len(batch.scores) for batch in data.train_dataloader()) == len(TRAIN)
    assert sorted(read_rows) == TRAIN


@pytest.mark.parametrize("memory_gib", [1.0, NO_MEMORY])
def test_an_epoch_has_every_usable_training_clip_once_in_a_new_order(store: FeatureStore, memory_gib: float) -> None:
    data = module_of(store, "flatten", memory_gib=memory_gib)
    expected = store.scores(TRAIN)[:, COLUMNS].tolist()
    epochs = [epoch_of(data) for _ in range(2)]
    for epoch in epochs:
        assert sorted(epoch) == sorted(expected)
    assert epochs[0] != epochs[1]
    assert epoch_of(module_of(store, "flatten", memory_gib=memory_gib)) == epochs[0]
    assert epoch_of(module_of(store, "flatten", memory_gib=memory_gib, seed=1)) != epochs[0]


@pytest.mark.parametrize("memory_gib", [1.0, NO_MEMORY])
def test_features_and_scores_belong_together(store: FeatureStore, memory_gib: float) -> None:
    data = module_of(store, "flatten", memory_gib=memory_gib)
    rows = store.rows("train")
    flat = torch.from_numpy(store.read(rows)).flatten(1)
    scores = torch.from_numpy(store.scores(rows)[:, COLUMNS])
    for batch in data.train_dataloader():
        for values, score in zip(batch.features.values, batch.scores, strict=True):
            row = int((flat == values).all(1).nonzero())
            assert torch.equal(score, scores[row])


@pytest.mark.parametrize("memory_gib", [1.0, NO_MEMORY])
def test_weights_are_of_the_stores_rows(store: FeatureStore, memory_gib: float) -> None:
    weights = np.arange(len(store) * 2, dtype=np.float32).reshape(-1, 2)
    spec = InputSpec("statistics", "speech", FRAMES, WIDTH)
    inputs = read_inputs(store, spec, memory_gib=memory_gib)
    data = ExpertsDataModule(inputs, ["anger", "fear"], batch_size=8, seed=0, weights=weights)
    scores = store.scores(store.rows())[:, COLUMNS].tolist()
    by_score = {tuple(score): weights[row] for row, score in zip(store.rows(), scores, strict=True)}
    means = weights[TRAIN].mean(0, where=weights[TRAIN] > 0)
    for batch in data.train_dataloader():
        for score, weight in zip(batch.scores.tolist(), batch.weights.tolist(), strict=True):
            assert weight == pytest.approx((by_score[tuple(score)] / means).tolist(), rel=1e-6)
    for batch in data.val_dataloader():
        assert torch.equal(batch.weights, torch.ones_like(batch.scores))
    plain = next(iter(module_of(store, memory_gib=memory_gib).train_dataloader()))
    assert torch.equal(plain.weights, torch.ones_like(plain.scores))


def test_weights_have_a_mean_of_1_over_what_is_rated_and_counts(fill_store: Callable[..., str], tmp_path: Path) -> None:
    """Clips without a score, of weight 0 or of other splits do not enter the mean, and no unit of weights matters."""
    store = written(
        tmp_path / "store.zarr", fill_store, lambda row: {"anger": 1.0} if row % 3 == 0 else {"anger": 2.0, "fear": 1.0}
    )
    weights = np.random.default_rng(0).uniform(0.5, 3, (len(store), 2)).astype(np.float32)
    weights[::5] = 0
    weights[::3, 1], weights[FAILED], weights[40:] = 1e30, 1e30, 1e30
    inputs = read_inputs(store, InputSpec("statistics", "speech", FRAMES, WIDTH), memory_gib=1.0)

    def of(weights: np.ndarray) -> torch.Tensor:
        data = ExpertsDataModule(inputs, ["anger", "fear"], batch_size=8, seed=0, weights=weights)
        assert torch.equal(data.narrowed(slice(1, 2)).train.weights, data.train.weights[:, 1:])
        return data.train.weights

    found = of(weights)
    for column, rated in enumerate((np.ones(len(TRAIN), bool), np.array(TRAIN) % 3 > 0)):
        mine = weights[TRAIN, column]
        expected = mine / mine[rated & (mine > 0)].mean(dtype=float)
        np.testing.assert_allclose(found[rated, column], expected[rated], rtol=1e-6)
        assert float(found[rated, column].double().sum()) == pytest.approx((rated & (mine > 0)).sum(), rel=1e-6)
    torch.testing.assert_close(of(weights * np.float32(8)), found, rtol=1e-6, atol=0)
    assert torch.equal(of(np.full_like(weights, 0.1)), torch.ones_like(found))
    assert not of(np.zeros_like(weights)).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights[:-1], r"weights of \(49, 2\), expected \(50, 2\)"),
        (lambda weights: weights[:, :1], r"weights of \(50, 1\), expected \(50, 2\)"),
        (lambda weights: weights - 2, "weights are numbers of 0 or more"),
        (lambda weights: weights * np.float32("nan"), "weights are numbers of 0 or more"),
    ],
)
def test_weights_that_are_none(store: FeatureStore, change: Callable[[np.ndarray], np.ndarray], message: str) -> None:
    weights = change(np.ones((len(store), 2), np.float32))
    inputs = read_inputs(store, InputSpec("statistics", "speech", FRAMES, WIDTH), memory_gib=1.0)
    with pytest.raises(ValueError, match=message):
        ExpertsDataModule(inputs, ["anger", "fear"], batch_size=8, seed=0, weights=weights)


@pytest.mark.parametrize("memory_gib", [1.0, NO_MEMORY])
def test_validation_batches_carry_the_classes_of_their_clips(store: FeatureStore, memory_gib: float) -> None:
    inputs = read_inputs(store, InputSpec("statistics", "all", FRAMES, WIDTH), memory_gib=memory_gib)
    labels = ClassLabels(Classes({"fear": "f", "anger": "a"}, {"f": 0, "a": 1}), np.arange(50) % 3 - 1)
    data = ExpertsDataModule(inputs, ["anger", "fear"], batch_size=2, seed=0, labels=labels)
    carried = [batch.labels for batch in data.val_dataloader()]
    assert torch.cat(carried).tolist() == [row % 3 - 1 for row in range(40, 45)]
    assert all(batch.labels is None for batch in data.train_dataloader())
    assert data.classes == labels.classes
    assert data.narrowed(slice(1, 2)).classes is None, "one of the experts is not among them"
    assert module_of(store).classes is None
    assert all(batch.labels is None for batch in module_of(store).val_dataloader())


def test_validation_and_test_come_in_order(store: FeatureStore) -> None:
    data = module_of(store, "attention")
    found = torch.cat([batch.features.values for batch in data.val_dataloader()])
    assert torch.equal(found, torch.from_numpy(store.read(range(40, 45))))
    test = torch.cat([features.values for features in data.inputs.in_order("test")])
    assert torch.equal(test, torch.from_numpy(store.read(range(45, 50))))


def test_a_place_among_other_batches_is_refused(store: FeatureStore) -> None:
    batches = module_of(store, memory_gib=NO_MEMORY).train_dataloader()
    assert isinstance(batches, StreamedBatches)
    assert len(list(batches)) == len(batches) == 5
    next(iter(batches))
    other = module_of(store, memory_gib=NO_MEMORY, seed=1).train_dataloader()
    assert isinstance(other, StreamedBatches)
    with pytest.raises(RequestError, match=r"(?s)another order than it began.*- seed: \d+ then, \d+ now"):
        other.load_state_dict(batches.state_dict())


class Recorder(LightningModule):  # type: ignore[misc]
    """Learns next to nothing and remembers which clips it saw, by their scores."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: list[tuple[float, ...]] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)

    def training_step(self, batch: Batch) -> torch.Tensor:
        self.seen += [tuple(scores) for scores in batch.scores.tolist()]
        return self.layer(batch.scores[:, :1]).square().mean()

    def validation_step(self, batch: Batch) -> None:
        assert len(batch.scores)


def trained(store: FeatureStore, checkpoints: Path, *, resume: Path | None = None) -> Recorder:
    """Three epochs, with a checkpoint after each step; or what is left of them after a checkpoint."""
    module = Recorder()
    trainer = Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[ModelCheckpoint(checkpoints, every_n_train_steps=1, save_top_k=-1, filename="{step}")],
    )
    with quiet():
        trainer.fit(module, module_of(store, memory_gib=NO_MEMORY), ckpt_path=resume, weights_only=False)
    return module


def test_a_training_that_was_interrupted_sees_what_it_would_have_seen(store: FeatureStore, tmp_path: Path) -> None:
    """Lightning keeps the loader's place in its checkpoints: here after each of the 5 steps of 3 epochs."""
    whole = trained(store, tmp_path).seen
    assert len(whole) == 3 * len(TRAIN)
    for step in range(1, 15):
        left = trained(store, tmp_path, resume=tmp_path / f"step={step}.ckpt").seen
        assert left == whole[len(whole) - len(left) :], step
        assert len(left) == 3 * len(TRAIN) - sum((8, 8, 8, 8, 7)[number % 5] for number in range(step)), step
