"""One bank of experts from a feature store: load, scale, train, go back to the best, fold."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from lightning import Trainer

from cache.store import FeatureStore
from datamodules.states import StateDataModule, StateDataset
from emonet.clips import Split
from emonet.configs import HeadsConfig
from emonet.errors import EmonetError
from emonet.experts import HeadBank
from emonet.inputs import InputSpec
from emonet.progress import ShowProgress
from emonet.randomness import seed_of
from lightningmodules.guards import interruptible, quiet
from lightningmodules.heads import HeadsModule, Report


@dataclass(frozen=True)
class FittedBank:
    """A trained bank, folded and in evaluation mode, with the data it came from.

    Args:
        bank: the experts, each with the weights of its best epoch.
        data: the batches it was trained on.
        validation_mae: of each expert's best epoch, by target id.
        best_epoch: of each expert, counted from 0.
    """

    bank: HeadBank
    data: StateDataModule
    validation_mae: Mapping[str, float]
    best_epoch: Mapping[str, int]

    def predict(self, split: Split) -> Float32[np.ndarray, "clips experts"]:
        """Scores of all usable clips of a split, in the store's order."""
        return predict(self.bank, self.data.validation if split == "validation" else self.data.dataset(split))


def fit_bank(
    store: FeatureStore,
    spec: InputSpec,
    targets: Sequence[str],
    config: HeadsConfig,
    *,
    seed: int,
    report: Report,
    show: ShowProgress,
) -> FittedBank:
    """Train one expert for each target on the store's training clips; its validation clips stop each.

    Args:
        store: holds states and scores.
        spec: the form of the input.
        targets: ids, each rated in the training and in the validation split.
        config: sizes, optimiser, epochs.
        seed: fixes starts, order and dropout; the global random state is left as it was.
        report: gets the metrics of each epoch.
        show: opens a progress callback.
    """
    with show(f"reading states ({spec.form})", "clips") as progress:
        data = StateDataModule(
            store,
            spec,
            targets,
            batch_size=config.batch_size,
            seed=seed,
            memory_gib=config.memory_gib,
            progress=progress,
        )
    bank = HeadBank(spec, targets, config.preset, seed=seed, dropout=config.dropout)
    if config.standardise:
        bank.standardise(data.scaling())
    with show(f"training {len(bank.targets)} experts ({spec.form})", "epochs") as progress:
        module = HeadsModule(bank, config, report=report, progress=progress)
        with _seeded(seed_of(seed, "dropout")), quiet(), interruptible(), _threads(spec):
            _trainer(config.epochs).fit(module, data)
    bank.to("cpu")
    _check_finite(module, config)
    module.stopping.restore()
    bank.fold()
    bank.eval()
    return FittedBank(
        bank,
        data,
        dict(zip(bank.targets, module.stopping.best_errors, strict=True)),
        dict(zip(bank.targets, module.stopping.best_epochs, strict=True)),
    )


def _check_finite(module: HeadsModule, config: HeadsConfig) -> None:
    errors = zip(module.bank.targets, module.stopping.best_errors, strict=True)
    diverged = [target for target, error in errors if not math.isfinite(error)]
    if diverged:
        raise EmonetError(
            "the experts' training diverged: a validation error is not a number",
            where=", ".join(diverged),
            hint=f"--heads.learning-rate {config.learning_rate / 10:g}",
        )


@torch.inference_mode()
def predict(bank: HeadBank, dataset: StateDataset) -> Float32[np.ndarray, "clips experts"]:
    """Scores of all clips of a dataset, in order."""
    scores = [bank(features) for features in dataset.in_order()]
    return torch.cat(scores).numpy() if scores else np.empty((0, len(bank.targets)), np.float32)


def _trainer(epochs: int) -> Trainer:
    """A trainer that trains and nothing else: metrics, progress and weights are the stage's business."""
    return Trainer(
        max_epochs=epochs,
        accelerator="auto",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextmanager
def _threads(spec: InputSpec) -> Iterator[None]:
    """One thread for statistics, whose steps take 2 to 10 ms.

    Two threads that wait for each other on a busy machine made that 200 (two cores shared by five processes).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if spec.form == "statistics" else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
