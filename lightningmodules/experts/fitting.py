"""Fitting one bank of experts: scale, train, go back to the best, fold."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float32
from lightning import Trainer

from datamodules.expert_inputs import Inputs
from datamodules.experts import ExpertsDataModule
from emonet.clips import Split
from emonet.configs import HeadsConfig
from emonet.errors import EmonetError
from emonet.experts import ExpertBank, InputSpec, Scaling
from emonet.runtime import Progress, resolve_device
from emonet.targets import TargetSpec
from emonet.training import UnweightedAccuracy
from lightningmodules.alone import alone_on
from lightningmodules.experts.module import ExpertsModule, Report
from lightningmodules.guards import interruptible, quiet


@dataclass(frozen=True)
class FittedBank:
    """A trained bank in evaluation mode, whose experts take inputs as they are.

    Args:
        bank: the experts, each with the weights of its best epoch.
        inputs: that it was trained on.
        validation_mae: of each expert's best epoch, by what it is called (`member_ids`).
        best_epoch: of each expert, counted from 0.
        layer_mix: of each expert, how much it makes of each layer; empty where none were mixed.
    """

    bank: ExpertBank
    inputs: Inputs
    validation_mae: Mapping[str, float]
    best_epoch: Mapping[str, int]
    layer_mix: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @torch.inference_mode()
    def predict(self, split: Split) -> Float32[np.ndarray, "clips experts"]:
        """Scores of all usable clips of a split, in the store's order."""
        scores = [self.bank(features) for features in self.inputs.in_order(split)]
        return torch.cat(scores).numpy() if scores else np.empty((0, len(self.bank.targets)), np.float32)


def fit_bank(
    data: ExpertsDataModule,
    config: HeadsConfig,
    *,
    seed: int,
    scaling: Scaling | None,
    report: Report,
    progress: Progress,
    device: str | None = None,
) -> FittedBank:
    """Train the data's experts; validation clips stop each.

    Args:
        data: its targets are rated in the training and in the validation split.
        config: sizes, loss, optimiser, epochs.
        seed: fixes starts and dropout; the global random state is left as it was.
        scaling: of the inputs, folded into the experts afterwards; None trains on them as they are.
        report: gets the metrics of each epoch.
        progress: called with the number of finished steps.
        device: to train on; by default the first GPU, else the processor.

    Raises:
        EmonetError: if a validation error is not finite.
    """
    mixed = config.layers == "mix"
    bank = ExpertBank(data.inputs.spec, data.experts, config.widths, seed=seed, dropout=config.dropout, mixed=mixed)
    bank.score_on([data.inputs.store.targets[target] for target in data.targets])
    if scaling is not None:
        bank.standardise(scaling)
    spec = TargetSpec(tuple(data.inputs.store.targets[target] for target in dict.fromkeys(data.targets)))
    accuracy = None if data.classes is None else UnweightedAccuracy(data.classes, spec)
    module = ExpertsModule(bank, config, targets=data.targets, accuracy=accuracy, report=report, progress=progress)
    with torch.random.fork_rng(), quiet(), interruptible(), _threads(data.inputs.spec):
        try:
            _trainer(config.epochs, device).fit(module, data)
        finally:
            module.on_train_end()  # Lightning leaves it out after an error, and moments would stay in memory
    bank.to("cpu")
    _check_finite(module, config)
    module.stopping.restore()
    mixes = [] if bank.mix is None else bank.mix.weights().tolist()
    bank.fold()
    bank.eval()
    return FittedBank(
        bank,
        data.inputs,
        dict(zip(bank.targets, module.stopping.best_errors, strict=True)),
        dict(zip(bank.targets, module.stopping.best_epochs, strict=True)),
        {target: tuple(mix) for target, mix in zip(bank.targets, mixes, strict=False)},
    )


def _check_finite(module: ExpertsModule, config: HeadsConfig) -> None:
    errors = zip(module.bank.targets, module.stopping.best_errors, strict=True)
    diverged = [target for target, error in errors if not math.isfinite(error)]
    if diverged:
        raise EmonetError(
            "the experts' training diverged: a validation error is not a number",
            where=", ".join(diverged),
            hint=f"--heads.learning-rate {config.learning_rate / 10:g}",
        )


def _trainer(epochs: int, device: str | None) -> Trainer:
    """A trainer that trains and nothing else: metrics, progress and weights are the stage's business."""
    return Trainer(
        **alone_on(resolve_device(device)),
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


@contextmanager
def _threads(spec: InputSpec) -> Iterator[None]:
    """One thread for statistics, whose steps take 2 to 10 ms.

    Two threads that wait for each other on a busy machine made that 200 (two cores shared by five processes).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if spec.per_value else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
