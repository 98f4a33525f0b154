"""A trial as a plain script does it: a DataLoader that reads each clip's states in each epoch, and 40 modules."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.heads_forward import FullEmbeddingMLP
from cache.store import FeatureStore
from emonet.clips import Split

READERS = 2  # worker processes of the DataLoader: one per core of the machine that this was written for


@dataclass(frozen=True)
class PlainTrial:
    """What a plain trial costs.

    Args:
        step: seconds of a training step, reading included.
        judged: seconds of a validation batch, reading included.
        steps: training steps in an epoch (count).
        batches: validation batches in an epoch (count).
        measured: training steps behind `step` (count).
    """

    step: float
    judged: float
    steps: int
    batches: int
    measured: int

    def seconds(self, epochs: int) -> float:
        """Of a trial of so many epochs; starting it and noting its result are not counted."""
        return epochs * (self.steps * self.step + self.batches * self.judged)


class ClipStates(Dataset[tuple[Tensor, Tensor]]):
    """A split's flattened states and scores, read clip by clip."""

    def __init__(self, store: FeatureStore, split: Split) -> None:
        self._store, self._rows = store, store.rows(split)
        self._scores = torch.from_numpy(store.scores(self._rows))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        states = self._store.read(self._rows[position : position + 1])[0]
        return torch.from_numpy(states).flatten().float(), self._scores[position]


def plain_trial(path: Path, batch_size: int, steps: int) -> PlainTrial:
    """Measure some steps of a plain trial: published experts on flattened states, one AdamW, the mean of MAE.

    Args:
        path: of the store.
        batch_size: clips per step.
        steps: that are measured, after one that is not (count).
    """
    store = FeatureStore.open(path)
    torch.manual_seed(0)
    features = store.record.frames * store.record.width
    experts = nn.ModuleList(FullEmbeddingMLP(features) for _ in store.targets)
    optimiser = torch.optim.AdamW(experts.parameters(), lr=3e-4)
    train, validation = (
        DataLoader(
            ClipStates(store, split),
            batch_size,
            shuffle=split == "train",
            num_workers=READERS,
            multiprocessing_context="fork",
        )
        for split in ("train", "validation")
    )

    def learn(states: Tensor, scores: Tensor) -> None:
        optimiser.zero_grad()
        _loss(experts, states, scores).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    @torch.no_grad()
    def judge(states: Tensor, scores: Tensor) -> None:
        _loss(experts, states, scores).item()

    step, judged = _median(train, learn, steps), _median(validation, judge, steps)
    return PlainTrial(step, judged, len(train), len(validation), steps)


def _loss(experts: nn.ModuleList, states: Tensor, scores: Tensor) -> Tensor:
    predictions = torch.cat([expert(states) for expert in experts], 1)
    return (predictions - scores).abs().nanmean()


def _median(loader: DataLoader[tuple[Tensor, Tensor]], work: object, count: int) -> float:
    """Seconds of a batch, read and worked on; the first is left out, in which workers start and memory is found."""
    taken = []
    batches: Iterator[list[Tensor]] = iter(loader)
    started = time.perf_counter()
    for states, scores in islice(batches, count + 1):
        work(states, scores)  # type: ignore[operator]
        taken.append(time.perf_counter() - started)
        started = time.perf_counter()
    return statistics.median(taken[1:] or taken)
