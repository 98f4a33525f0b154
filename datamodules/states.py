"""From the feature store to batches for the experts."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float16, Float32, Int
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

from cache.loader import ShuffledClips
from cache.pools import POOLS
from cache.store import FeatureStore
from emonet.clips import Split
from emonet.inputs import Features, InputSpec
from emonet.progress import Progress, silent
from emonet.randomness import seed_of
from emonet.scaling import Scaling, ScalingMeter

READ_CLIPS = 16  # clips read at once: 37 MB of Whisper small's states
GIB = 1 << 30


class Batch(NamedTuple):
    """Clips for the experts.

    Args:
        features: what `HeadBank` takes.
        scores: `batch experts`, NaN where nobody rated.
        weights: `batch experts`, how much each score counts in training, 0 or more; 1 in the mean of those above 0.
    """

    features: Features
    scores: Tensor
    weights: Tensor


class StateDataset(Dataset[Batch]):
    """The clips of one split, prepared for the experts; indexed by lists of positions.

    Args:
        store: where the states are.
        rows: of the store.
        spec: the form of the input.
        targets: ids of the experts, in order.
        in_memory: prepare all clips at once and keep them; else read the store for every batch.
        progress: called with the number of clips read.
        weights: how much each clip of the store, of any split, counts for each expert, 0 or more; 1 by default. They
            are brought to a mean of 1 over these rows, by expert, as far as rated and above 0.
        instead: of the states, values of each clip of the store, whose number `spec` gives as the width of one frame.

    Raises:
        ValueError: if there are not as many weights as clips and experts, or one is negative or not finite.
    """

    def __init__(
        self,
        store: FeatureStore,
        rows: Int[np.ndarray, " clips"],
        spec: InputSpec,
        targets: Sequence[str],
        *,
        in_memory: bool,
        progress: Progress = silent,
        weights: Float32[np.ndarray, "stored experts"] | None = None,
        instead: Float32[np.ndarray, "stored features"] | None = None,
    ) -> None:
        self.store, self.rows, self._spec = store, rows, spec
        columns = [store.targets.index(target) for target in targets]
        self.scores: Float32[Tensor, "clips experts"] = torch.from_numpy(store.scores(rows)[:, columns])
        self.weights: Float32[Tensor, "clips experts"] = torch.ones_like(self.scores)
        if weights is not None:
            checked = torch.from_numpy(_checked(weights, (len(store), len(columns)))[rows])
            self.weights = _around_one(checked, ~self.scores.isnan())
        self._features: Features | None = None
        if instead is not None:
            values = torch.from_numpy(instead[rows])
            self._features = Features(values, torch.ones(len(rows), dtype=torch.int64))
        elif in_memory and len(rows):
            self._features = self._load(progress)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, positions: Sequence[int]) -> Batch:
        index = torch.as_tensor(positions)
        features = self._read(index.numpy()) if self._features is None else self._features.rows(index)
        return Batch(features, self.scores[index], self.weights[index])

    def in_order(self) -> Iterator[Features]:
        """All clips in order, a few at a time."""
        for start in range(0, len(self), READ_CLIPS):
            yield self[range(start, min(start + READ_CLIPS, len(self)))].features

    def narrowed(self, experts: slice) -> StateDataset:
        """The same clips, with the states that are in memory, for some of the experts."""
        narrow = copy.copy(self)
        narrow.scores, narrow.weights = self.scores[:, experts], self.weights[:, experts]
        return narrow

    def batch(self, rows: Int[np.ndarray, " batch"], states: Float16[np.ndarray, "batch frames width"]) -> Batch:
        """A batch of these rows of the store, which are of this split, whose states have been read."""
        index = torch.from_numpy(np.searchsorted(self.rows, rows))
        return Batch(self._prepare(rows, states), self.scores[index], self.weights[index])

    def _read(self, positions: Int[np.ndarray, " batch"]) -> Features:
        rows = self.rows[positions]
        return self._prepare(rows, self.store.read(rows))

    def _prepare(self, rows: Int[np.ndarray, " batch"], states: Float16[np.ndarray, "batch frames width"]) -> Features:
        return self._spec.prepare(torch.from_numpy(states), torch.from_numpy(self.store.speech_frames(rows)))

    def _load(self, progress: Progress) -> Features:
        """Fill one array clip by clip, so that memory never holds the states twice."""
        total = len(self)
        filled: Features | None = None
        progress(0, total)
        for start in range(0, total, READ_CLIPS):
            stop = min(start + READ_CLIPS, total)
            part = self._read(np.arange(start, stop))
            if filled is None:
                filled = Features(*(tensor.new_empty(total, *tensor.shape[1:]) for tensor in part))
            for whole, tensor in zip(filled, part, strict=True):
                whole[start:stop] = tensor
            progress(stop, total)
        assert filled is not None
        return filled


class StreamedBatches:
    """Training batches that are read from the store in each epoch, in an order of their own.

    Lightning takes it for a data loader, and keeps its place in checkpoints: a training that is resumed in the middle
    of an epoch goes on with the next batch.

    Args:
        dataset: the clips of the training split.
        batch_size: most clips per step.
        seed: of the order, a new one each epoch.
        memory_bytes: for clips that are read ahead; two batches are the least.
    """

    def __init__(self, dataset: StateDataset, *, batch_size: int, seed: int, memory_bytes: float) -> None:
        pool_clips = max(batch_size, int(memory_bytes / POOLS / dataset.store.clip_bytes))
        self._dataset = dataset
        self._clips = ShuffledClips(
            dataset.store, dataset.rows, batch_size=batch_size, seed=seed, pool_clips=pool_clips
        )

    def __len__(self) -> int:
        return len(self._clips)

    def __iter__(self) -> Iterator[Batch]:
        for rows, states in self._clips:
            yield self._dataset.batch(rows, states)

    def state_dict(self) -> dict[str, Any]:
        """The place in the sequence of batches."""
        return self._clips.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on at that place."""
        self._clips.load_state_dict(state)

    def release(self) -> None:
        """Free the memory that is kept from one epoch to the next."""
        self._clips.release()


class StateDataModule(LightningDataModule):  # type: ignore[misc]
    """Training and validation batches for a `HeadBank`.

    Batches are read in this process: in memory they are a slice, and a worker would have to send 2.3 MB per clip.

    Args:
        store: where the states are.
        spec: the form of the input.
        targets: ids of the experts, in order.
        batch_size: clips per step.
        seed: of the order of training clips, a new one each epoch.
        memory_gib: up to this size prepared clips are kept in memory; beyond it each epoch reads the store, and this
            is the memory for clips that are read ahead, but no less than two batches (GiB).
        progress: called with the number of training clips read into memory.
        weights: how much each clip of the store counts for each expert in training, 0 or more, compared with the other
            training clips; 1 by default.
        instead: of the states, values of each clip of the store, whose number `spec` gives as the width of one frame.
    """

    def __init__(
        self,
        store: FeatureStore,
        spec: InputSpec,
        targets: Sequence[str],
        *,
        batch_size: int,
        seed: int,
        memory_gib: float,
        progress: Progress = silent,
        weights: Float32[np.ndarray, "stored experts"] | None = None,
        instead: Float32[np.ndarray, "stored features"] | None = None,
    ) -> None:
        super().__init__()
        self.spec, self.targets = spec, tuple(targets)
        self._store, self._batch_size, self._memory_bytes = store, batch_size, memory_gib * GIB
        self._instead = instead
        clips = len(store.rows("train")) + len(store.rows("validation"))
        self.in_memory = instead is not None or clips * spec.bytes_per_clip <= self._memory_bytes
        self.train = self._dataset("train", in_memory=self.in_memory, progress=progress, weights=weights)
        self.validation = self._dataset("validation", in_memory=self.in_memory)
        self._order_seed = seed_of(seed, "order of training clips")
        self._begin()

    def _begin(self) -> None:
        self._order = torch.Generator().manual_seed(self._order_seed)
        self._streamed: StreamedBatches | None = None
        if not self.in_memory:
            self._streamed = StreamedBatches(
                self.train, batch_size=self._batch_size, seed=self._order_seed, memory_bytes=self._memory_bytes
            )

    def narrowed(self, experts: slice) -> StateDataModule:
        """The same clips, with the states that are in memory, in the same order, for some of the experts."""
        narrow = copy.copy(self)
        narrow.targets = self.targets[experts]
        narrow.train, narrow.validation = self.train.narrowed(experts), self.validation.narrowed(experts)
        narrow._begin()
        return narrow

    def dataset(self, split: Split) -> StateDataset:
        """The clips of a split; states that are not in memory are read as they are asked for."""
        if split == "validation":
            return self.validation
        return self.train if split == "train" else self._dataset(split, in_memory=False)

    def scaling(self) -> Scaling:
        """Mean and deviation of the inputs over the training clips, in one pass."""
        meter = ScalingMeter(self.spec)
        for features in self.train.in_order():
            meter.update(features)
        return meter.scaling()

    def train_dataloader(self) -> DataLoader[Batch] | StreamedBatches:
        """Training clips in a new order each epoch."""
        if self._streamed is not None:
            return self._streamed
        return _loader(self.train, RandomSampler(self.train, generator=self._order), self._batch_size)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Validation clips in order."""
        return _loader(self.validation, SequentialSampler(self.validation), self._batch_size)

    def teardown(self, stage: str) -> None:  # noqa: ARG002 - Lightning's signature
        """Free what was read ahead."""
        if self._streamed is not None:
            self._streamed.release()

    def _dataset(
        self,
        split: Split,
        *,
        in_memory: bool,
        progress: Progress = silent,
        weights: Float32[np.ndarray, "stored experts"] | None = None,
    ) -> StateDataset:
        return StateDataset(
            self._store,
            self._store.rows(split),
            self.spec,
            self.targets,
            in_memory=in_memory,
            progress=progress,
            weights=weights,
            instead=self._instead,
        )


def _checked(
    weights: Float32[np.ndarray, "stored experts"], shape: tuple[int, int]
) -> Float32[np.ndarray, "stored experts"]:
    if weights.shape != shape:
        raise ValueError(f"weights of {weights.shape}, expected {shape}: every clip of the store, every expert")
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError("weights are numbers of 0 or more")
    return weights


def _around_one(weights: Float32[Tensor, "clips experts"], rated: Bool[Tensor, "clips experts"]) -> Tensor:
    """Weights in the same proportion whose mean is 1, by expert: how fast it learns does not depend on their unit."""
    counted = torch.where(rated, weights, 0).double()
    means = counted.sum(0) / (counted > 0).sum(0).clamp(min=1)
    return (weights / torch.where(means > 0, means, 1)).float()


def _loader(dataset: StateDataset, sampler: RandomSampler | SequentialSampler, batch_size: int) -> DataLoader[Batch]:
    # The sampler hands whole lists of positions to the dataset: one slice per batch, no collating clip by clip.
    batches = BatchSampler(sampler, batch_size, drop_last=False)
    return DataLoader(dataset, sampler=batches, batch_size=None, num_workers=0)
