"""What a training of experts is asked for, whom it tells, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from torch import Tensor

from cache.store import FeatureStore
from datamodules.expert_inputs import Inputs
from datamodules.experts import ExpertsDataModule
from emonet.clips import Split
from emonet.configs import HeadsConfig
from emonet.experts import InputSpec
from emonet.runtime import ShowProgress, ignore
from emonet.targets import ClassLabels
from emonet.training import TrainingPlan
from lightningmodules.experts.module import Report

Tensors = Mapping[str, Tensor]
"""One expert's tensors by their published names."""


@dataclass(frozen=True)
class TrainingRequest:
    """What is to be trained, and how.

    Args:
        store: holds states and scores.
        spec: the form of the input.
        targets: ids, each rated in the training and in the validation split.
        config: sizes, loss, optimiser, epochs, memory.
        seed: fixes starts, order and dropout.
        weights: of every clip of the store and each target in the loss; all 1 by default.
        predicted: splits whose clips are predicted, validation among them; of others none is read but for training.
        labels: classes of the store's clips, for the validation's UA; None tells none.
        inputs: the store's clips in the form of the input, where they are prepared; None prepares them.
    """

    store: FeatureStore
    spec: InputSpec
    targets: tuple[str, ...]
    config: HeadsConfig
    seed: int
    weights: Float32[np.ndarray, "stored targets"] | None = None
    predicted: tuple[Split, ...] = ("validation", "test")
    labels: ClassLabels | None = None
    inputs: Inputs | None = None

    def data(self, inputs: Inputs) -> ExpertsDataModule:
        """Prepared clips for all experts, of which each group takes some."""
        return ExpertsDataModule(
            inputs,
            self.targets,
            batch_size=self.config.batch_size,
            seed=self.seed,
            weights=self.weights,
            labels=self.labels,
            ensemble=self.config.ensemble,
        )


@dataclass(frozen=True)
class TrainingCallbacks:
    """Who is told what.

    Args:
        report: gets the metrics of each epoch.
        show: opens a progress callback.
        scratch: an empty folder for the experts of one group while the next is trained.
        say: told the plan, and what became of it.
        planned: told the plan itself, each time that there is a new one.
    """

    report: Report
    show: ShowProgress
    scratch: Path
    say: Callable[[str], None] = ignore
    planned: Callable[[TrainingPlan], None] = ignore


@dataclass(frozen=True)
class TrainedExperts:
    """Experts of one form of input, each with the weights of its best epoch.

    Args:
        spec: the form of the input, of raw states.
        hidden: outputs of the projection and of each hidden layer.
        targets: ids, in order.
        validation_mae: by target id: of its expert's best epoch, or of the mean of several.
        best_epoch: of each expert, by what it is called (`emonet.experts.member_ids`), counted from 0.
        predictions: scores of the clips of each predicted split, in the store's order.
        experts: gives each expert's tensors in turn, target by target, in the published form, as long as the scratch
            folder is there.
        energy: share of the states' variance that principal coordinates hold; None where experts saw the states.
        layer_mix: of each expert, by what it is called, how much it makes of each layer; empty where none were mixed.
        spread: deviation over the members of each target (unbiased), as `predictions`; empty without ensembles.
    """

    spec: InputSpec
    hidden: tuple[int, ...]
    targets: tuple[str, ...]
    validation_mae: Mapping[str, float]
    best_epoch: Mapping[str, int]
    predictions: Mapping[Split, Float32[np.ndarray, "clips experts"]]
    experts: Callable[[], Iterator[Tensors]]
    energy: float | None = None
    layer_mix: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    spread: Mapping[Split, Float32[np.ndarray, "clips experts"]] = field(default_factory=dict)
