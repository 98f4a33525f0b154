"""DataModule of the experts: from the feature store to batches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float16, Float32, Int, Int64
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

from cache.loading import POOLS, ClipBatch, SharedClips, SharedOrder, ShuffledClips, ShuffledOrder
from datamodules.expert_inputs import Inputs
from emonet.clips import Split
from emonet.experts import Features, member_ids
from emonet.runtime import seed_of
from emonet.targets import Classes, ClassLabels


class Batch(NamedTuple):
    """Clips for the experts.

    Args:
        features: what `ExpertBank` takes.
        scores: `batch experts`, NaN where nobody rated.
        weights: `batch experts`, how much each score counts in training, 0 or more; 1 in the mean of those above 0.
        labels: `batch`, position of each clip's class among those that experts tell apart, or `NO_CLASS`; None in
            training, and where there are no classes.
    """

    features: Features
    scores: Tensor
    weights: Tensor
    labels: Tensor | None = None


class StateDataset(Dataset[Batch]):
    """The clips of one split for some experts; indexed by lists of positions.

    Args:
        inputs: prepared clips.
        split: whose.
        targets: of the experts, in order, ids that may come several times.
        weights: how much each clip of the store, of any split, counts for each expert, 0 or more; 1 by default. They
            are brought to a mean of 1 over this split, by expert, as far as rated and above 0.
        labels: classes of the store's clips, which batches then carry.

    Raises:
        ValueError: if there are not as many weights as clips and experts, or one is negative or not finite.
    """

    def __init__(
        self,
        inputs: Inputs,
        split: Split,
        targets: Sequence[str],
        *,
        weights: Float32[np.ndarray, "stored experts"] | None = None,
        labels: ClassLabels | None = None,
    ) -> None:
        store = inputs.store
        self.inputs, self.split, self.rows = inputs, split, inputs.rows[split]
        columns = [store.targets.index(target) for target in targets]
        scores = store.scores(self.rows)
        if columns != list(range(scores.shape[1])):  # else they are not copied: of a million clips 160 MB
            scores = scores[:, columns]
        self.scores: Float32[Tensor, "clips experts"] = torch.from_numpy(scores)
        self.weights: Float32[Tensor, "clips experts"] = torch.ones(()).expand_as(self.scores)  # a single number
        if weights is not None:
            checked = torch.from_numpy(_checked(weights, (len(store), len(columns)))[self.rows])
            self.weights = _around_one(checked, ~self.scores.isnan())
        self.labels: Int64[Tensor, " clips"] | None = None
        if labels is not None:
            self.labels = torch.from_numpy(labels.given[self.rows])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, positions: Sequence[int]) -> Batch:
        index = torch.as_tensor(positions)
        return self._batch(self.inputs.of(self.split, index.numpy()), index)

    def narrowed(self, experts: slice) -> StateDataset:
        """The same clips for some of the experts."""
        narrow = copy.copy(self)
        narrow.scores, narrow.weights = self.scores[:, experts], self.weights[:, experts]
        return narrow

    def batch(self, rows: Int[np.ndarray, " batch"], states: Float16[np.ndarray, "batch frames width"]) -> Batch:
        """A batch of these rows of the store, which are of this split, whose states have been read."""
        index = torch.from_numpy(np.searchsorted(self.rows, rows))
        return self._batch(self.inputs.prepare(rows, states), index)

    def _batch(self, features: Features, index: Int64[Tensor, " batch"]) -> Batch:
        labels = None if self.labels is None else self.labels[index]
        return Batch(features, self.scores[index], self.weights[index], labels)


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
        store = dataset.inputs.store
        pool_clips = max(batch_size, int(memory_bytes / POOLS / store.clip_bytes))
        self._dataset = dataset
        self._clips = ShuffledClips(store, dataset.rows, batch_size=batch_size, seed=seed, pool_clips=pool_clips)

    def __len__(self) -> int:
        return len(self._clips)

    def __iter__(self) -> Iterator[Batch]:
        for rows, states in self._clips:
            yield self._dataset.batch(rows, states)

    @property
    def order(self) -> ShuffledOrder:
        """Of the batches of each epoch."""
        return self._clips.order

    def state_dict(self) -> dict[str, Any]:
        """The place in the sequence of batches."""
        return self._clips.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on at that place."""
        self._clips.load_state_dict(state)

    def release(self) -> None:
        """Free the memory that is kept from one epoch to the next."""
        self._clips.release()


class SharedBatches:
    """Batches of a split out of a read of the store that several trainings share.

    Args:
        dataset: the clips of the split.
        clips: begins an iteration.
        batches: of one iteration (count).
    """

    def __init__(self, dataset: StateDataset, clips: Callable[[], Iterator[ClipBatch]], batches: int) -> None:
        self._dataset, self._clips, self._batches = dataset, clips, batches

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[Batch]:
        for rows, states in self._clips():
            yield self._dataset.batch(rows, states)


class ExpertsDataModule(LightningDataModule):  # type: ignore[misc]
    """Training and validation batches for an `ExpertBank`.

    Batches are read in this process: in memory they are a slice, and a worker would have to send 2.3 MB per clip.

    Args:
        inputs: prepared clips; where training clips are not held, each epoch reads the store.
        targets: ids that experts are for, in order.
        batch_size: clips per step.
        seed: of the order of training clips, a new one each epoch.
        weights: how much each clip of the store counts for each target in training, 0 or more, compared with the other
            training clips; 1 by default.
        labels: classes of the store's clips, which validation batches then carry.
        ensemble: experts of each target (count).

    Attributes:
        experts: what they are called, target by target (`member_ids`).
        targets: of each expert.
    """

    def __init__(
        self,
        inputs: Inputs,
        targets: Sequence[str],
        *,
        batch_size: int,
        seed: int,
        weights: Float32[np.ndarray, "stored experts"] | None = None,
        labels: ClassLabels | None = None,
        ensemble: int = 1,
    ) -> None:
        super().__init__()
        self.inputs, self.experts = inputs, member_ids(targets, ensemble)
        self.targets = tuple(target for target in targets for _ in range(ensemble))
        self._batch_size = batch_size
        if weights is not None:
            weights = np.repeat(weights, ensemble, axis=1)
        self.train = StateDataset(inputs, "train", self.targets, weights=weights)
        self.validation = StateDataset(inputs, "validation", self.targets, labels=labels)
        self._classes = None if labels is None else labels.classes
        self._order_seed = seed_of(seed, "order of training clips")
        self._shared: SharedClips | None = None
        self._begin()

    @property
    def classes(self) -> Classes | None:
        """The classes that these experts tell apart; None where there are none, or one has no expert among them."""
        classes = self._classes
        return classes if classes is not None and classes.names.keys() <= set(self.targets) else None

    def _begin(self) -> None:
        self._order = torch.Generator().manual_seed(self._order_seed)
        self._streamed: StreamedBatches | None = None
        if not self.inputs.in_memory:
            self._streamed = StreamedBatches(
                self.train, batch_size=self._batch_size, seed=self._order_seed, memory_bytes=self.inputs.memory_bytes
            )

    def narrowed(self, experts: slice) -> ExpertsDataModule:
        """The same clips, with the states that are in memory, in the same order, for some of the experts."""
        narrow = copy.copy(self)
        narrow.experts, narrow.targets = self.experts[experts], self.targets[experts]
        narrow.train, narrow.validation = self.train.narrowed(experts), self.validation.narrowed(experts)
        narrow._begin()
        return narrow

    def shared_order(self) -> SharedOrder | None:
        """What a read for several groups of these experts gives; None where training clips are in memory."""
        rows = self.inputs.rows["validation"]
        return None if self._streamed is None else SharedOrder(self._streamed.order, rows)

    def shared(self, clips: SharedClips) -> ExpertsDataModule:
        """The same clips, out of a read that is shared with others."""
        sharing = copy.copy(self)
        sharing._shared, sharing._streamed = clips, None
        return sharing

    def train_dataloader(self) -> DataLoader[Batch] | StreamedBatches | SharedBatches:
        """Training clips in a new order each epoch."""
        if self._shared is not None:
            return SharedBatches(self.train, self._shared.training, self._shared.order.training.batches)
        if self._streamed is not None:
            return self._streamed
        return _loader(self.train, RandomSampler(self.train, generator=self._order), self._batch_size)

    def val_dataloader(self) -> DataLoader[Batch] | SharedBatches:
        """Validation clips in order."""
        if self._shared is not None:
            return SharedBatches(self.validation, self._shared.validation, -(-len(self.validation) // self._batch_size))
        return _loader(self.validation, SequentialSampler(self.validation), self._batch_size)

    def teardown(self, stage: str) -> None:  # noqa: ARG002 - Lightning's signature
        """Free what was read ahead."""
        if self._streamed is not None:
            self._streamed.release()


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
