"""Training of full-size experts: one by one as the paper does, in a bank, and in principal coordinates."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from benchmarks.heads_forward import FullEmbeddingMLP
from benchmarks.measure import forget
from cache.principal import principal
from cache.store import FeatureStore
from emonet.configs import HeadsConfig
from emonet.experts import ExpertBank, InputSpec
from emonet.runtime import Progress, ignore
from emonet.training import BankOptimiser, Precision, TrainingPlan, expert_losses
from lightningmodules.experts import TrainedExperts, TrainingCallbacks, TrainingRequest, train_experts

BATCH = 64  # clips per step
CLIPS = 256  # in a measured epoch; longer ones are so many times longer
MEMORY_GIB = 5.0  # for states: 2000 clips
COMPARED = 4  # lifted experts whose scores are looked at
STREAMED_GIB = 0.5  # where the store is read in each epoch


def quietly(label: str, unit: str) -> nullcontext[Progress]:
    """Show no progress."""
    del label, unit
    return nullcontext(ignore)


@dataclass(frozen=True)
class Epoch:
    """One epoch over some clips, the store's files not in memory before.

    Args:
        clips: how many.
        reading: seconds that reading took.
        steps: seconds of each step, reading aside.
        experts: that were trained.
    """

    clips: int
    reading: float
    steps: tuple[float, ...]
    experts: int

    @property
    def step(self) -> float:
        """The median step (seconds); the first is left out, in which memory is found."""
        return statistics.median(self.steps[1:])

    def seconds(self, clips: int) -> float:
        """Of an epoch over `clips`, at this speed: reading grows with the clips, and so does the number of steps."""
        return self.reading * clips / self.clips + self.step * -(-clips // BATCH)


def alone(path: Path) -> Epoch:
    """One expert in an epoch of its own, as the paper's authors and most people would write it.

    A plain module in float32, `torch.optim.AdamW` as it comes, batches of random clips read from the store.
    """
    store = FeatureStore.open(path)
    forget(path)
    rows = _some(store)
    scores = torch.from_numpy(store.scores(rows)[:, 0])
    torch.manual_seed(0)
    module = FullEmbeddingMLP()
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-5)
    reading, steps = 0.0, []
    for first in range(0, len(rows) - BATCH + 1, BATCH):
        started = time.perf_counter()
        states = torch.from_numpy(store.read(rows[first : first + BATCH]))
        read = time.perf_counter()
        loss = (module(states.float())[:, 0] - scores[first : first + BATCH]).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        reading += read - started
        steps.append(time.perf_counter() - read)
    return Epoch(len(rows), reading, tuple(steps), 1)


def _some(store: FeatureStore) -> Int64[np.ndarray, " clips"]:
    """Training clips in random order, a whole number of batches."""
    rows = np.random.default_rng(0).permutation(store.rows("train"))
    return rows[: min(CLIPS, len(rows)) // BATCH * BATCH]


def in_bank(path: Path, precision: Precision, group: int) -> Epoch:
    """One group of experts in an epoch over the store.

    Args:
        path: of the store.
        precision: of the training.
        group: experts in the bank.
    """
    store = FeatureStore.open(path)
    targets = store.targets.ids[:group]
    spec = InputSpec("flatten", "all", store.record.frames, store.record.width)
    config = HeadsConfig(batch_size=BATCH, precision=precision, standardise=False)
    bank = ExpertBank(spec, targets, config.widths, seed=0, dropout=config.dropout)
    optimiser = BankOptimiser(bank, learning_rate=1e-5, weight_decay=0.01, precision=precision)
    forget(path)
    rows = _some(store)
    scores = torch.from_numpy(store.scores(rows)[:, :group])
    reading, steps = 0.0, []
    for first in range(0, len(rows) - BATCH + 1, BATCH):
        started = time.perf_counter()
        states = torch.from_numpy(store.read(rows[first : first + BATCH]))
        features = spec.prepare(states, torch.full((BATCH,), spec.frames))
        read = time.perf_counter()
        wanted = scores[first : first + BATCH]
        loss = expert_losses(bank(features), wanted, torch.ones_like(wanted), "mae").sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        reading += read - started
        steps.append(time.perf_counter() - read)
    return Epoch(len(rows), reading, tuple(steps), group)


@dataclass(frozen=True)
class Coordinates:
    """Training in principal coordinates over all training clips of a store.

    Args:
        clips: training clips.
        basis: seconds to make the coordinates, reading included.
        epochs: seconds of training all experts for so many epochs as asked for.
        lifting: seconds to lift all experts.
        difference: largest difference between a lifted expert's scores and those in coordinates, on test clips, as a
            share of their deviation.
    """

    clips: int
    basis: float
    epochs: float
    lifting: float
    difference: float


def in_coordinates(path: Path, epochs: int, experts: int) -> Coordinates:
    """Make the coordinates of a store that has none, train experts on them, lift these."""
    store = FeatureStore.open(path)
    forget(path)
    started = time.perf_counter()
    states = principal(store, standardise=True, memory_gib=MEMORY_GIB, seed=0, show=quietly)
    states.coordinates.sum()
    made = time.perf_counter()
    trained = trained_in_coordinates(store, epochs, experts)
    fitted = time.perf_counter()
    lifting, differences = 0.0, []
    resumed = time.perf_counter()
    for position, tensors in enumerate(trained.experts()):
        lifting += time.perf_counter() - resumed
        if position < COMPARED:
            differences.append(largest_difference(store, trained, position, tensors))
        resumed = time.perf_counter()
    return Coordinates(len(store.rows("train")), made - started, fitted - made, lifting, max(differences))


def trained_in_coordinates(store: FeatureStore, epochs: int, experts: int) -> TrainedExperts:
    """Experts whose training stops at no epoch before the last."""
    spec = InputSpec("flatten", "all", store.record.frames, store.record.width)
    config = HeadsConfig(batch_size=BATCH, epochs=epochs, patience=epochs, features="principal", states_gib=MEMORY_GIB)
    watch = TrainingCallbacks(ignore, quietly, scratch=store.home.parent)
    return train_experts(TrainingRequest(store, spec, store.targets.ids[:experts], config, 0), watch)


def largest_difference(
    store: FeatureStore, trained: TrainedExperts, position: int, tensors: Mapping[str, Tensor]
) -> float:
    """Between the scores that a lifted expert gives test clips and its predictions in coordinates."""
    rows, spec = store.rows("test"), trained.spec
    bank = ExpertBank(spec, ["lifted"], trained.hidden, seed=None).eval()
    for key, tensor in bank.tensors(0):
        tensor.copy_(tensors[key])
    features = spec.prepare(torch.from_numpy(store.read(rows)), torch.full((len(rows),), spec.frames))
    with torch.inference_mode():
        scores = bank(features)[:, 0].numpy()
    expected = trained.predictions["test"][:, position]
    return float(np.abs(scores - expected).max() / expected.std())


@dataclass(frozen=True)
class Memory:
    """Memory of a training (bytes).

    Args:
        planned: before the start.
        peak: that the process held at most.
    """

    planned: int
    peak: int


def peak(path: Path, precision: Precision, experts: int) -> Memory:
    """Train a group of full-size experts for one epoch in this process, which must be a fresh one."""
    store = FeatureStore.open(path)
    spec = InputSpec("flatten", "all", store.record.frames, store.record.width)
    config = HeadsConfig(batch_size=BATCH, epochs=1, precision=precision, states_gib=STREAMED_GIB)
    planned: list[TrainingPlan] = []
    watch = TrainingCallbacks(ignore, quietly, scratch=path.parent, planned=planned.append)
    train_experts(TrainingRequest(store, spec, store.targets.ids[:experts], config, 0), watch)
    return Memory(planned[0].peak_bytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
