"""Groups of experts that are trained: their figures in memory, of several groups the experts themselves on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Float32
from safetensors.torch import load_file, save_file

from datamodules.experts import ExpertsDataModule
from emonet.clips import Split
from emonet.experts import Scaling
from emonet.runtime import Progress
from lightningmodules.experts.fitting import fit_bank
from lightningmodules.experts.module import Report
from lightningmodules.experts.wanted import Tensors, TrainedExperts, TrainingRequest


@dataclass(frozen=True)
class TrainedGroup:
    """A group that is trained; picklable where its experts are on disk.

    Args:
        hidden: outputs of the projection and of each hidden layer.
        validation_mae: of each expert's best epoch, by what it is called.
        best_epoch: of each expert, counted from 0.
        layer_mix: of each expert, how much it makes of each layer; empty where none were mixed.
        predictions: scores of the clips of each predicted split, in the store's order.
        experts: each one's tensors, or the file that holds them.
    """

    hidden: tuple[int, ...]
    validation_mae: Mapping[str, float]
    best_epoch: Mapping[str, int]
    layer_mix: Mapping[str, tuple[float, ...]]
    predictions: Mapping[Split, Float32[np.ndarray, "clips experts"]]
    experts: tuple[Tensors | Path, ...]


def fit_group(
    wanted: TrainingRequest,
    data: ExpertsDataModule,
    scaling: Scaling | None,
    *,
    report: Report,
    progress: Progress,
    device: str,
    scratch: Path | None,
) -> TrainedGroup:
    """Train a group.

    Args:
        wanted: the training of all.
        data: the group's.
        scaling: of the inputs; None trains on them as they are.
        report: gets the metrics of each epoch.
        progress: called with the number of finished steps.
        device: to train on; empty takes the first GPU, else the processor.
        scratch: folder for its experts; None keeps them in memory.

    Raises:
        EmonetError: if a validation error is not finite.
    """
    fitted = fit_bank(
        data, wanted.config, seed=wanted.seed, scaling=scaling, report=report, progress=progress, device=device
    )
    predictions = {split: fitted.predict(split) for split in wanted.predicted}
    experts: list[Tensors | Path] = []
    for position, name in enumerate(fitted.bank.targets):
        tensors = dict(fitted.bank.tensors(position))
        experts.append(tensors if scratch is None else saved(tensors, scratch / f"{name}.safetensors"))
    return TrainedGroup(
        fitted.bank.hidden,
        fitted.validation_mae,
        fitted.best_epoch,
        fitted.layer_mix,
        predictions,
        tuple(experts),
    )


@final
@dataclass
class FinishedGroups:
    """The experts that are trained; those of several groups wait on disk."""

    predicted: tuple[Split, ...]
    hidden: tuple[int, ...] = ()
    validation_mae: dict[str, float] = field(default_factory=dict)
    best_epoch: dict[str, int] = field(default_factory=dict)
    layer_mix: dict[str, tuple[float, ...]] = field(default_factory=dict)
    _predictions: list[Mapping[Split, np.ndarray]] = field(default_factory=list)
    _kept: list[Tensors | Path] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Experts that are trained."""
        return len(self.best_epoch)

    def take(self, group: TrainedGroup) -> None:
        """Note the figures of a group and keep its experts."""
        # Nothing here takes memory: a group that is trained again must not have been noted in part.
        self._predictions.append(group.predictions)
        self._kept += group.experts
        self.hidden = group.hidden
        self.validation_mae |= group.validation_mae
        self.best_epoch |= group.best_epoch
        self.layer_mix |= group.layer_mix

    def experts(self) -> Iterator[Tensors]:
        """Each expert's tensors, in turn."""
        for kept in self._kept:
            yield load_file(kept) if isinstance(kept, Path) else kept

    def all(
        self,
        wanted: TrainingRequest,
        experts: Callable[[], Iterator[Tensors]] | None = None,
        energy: float | None = None,
    ) -> TrainedExperts:
        """Everything, of all groups."""
        by_split = {
            split: np.concatenate([some[split] for some in self._predictions], axis=1) for split in self.predicted
        }
        ensemble, errors = wanted.config.ensemble, self.validation_mae
        spread: dict[Split, np.ndarray] = {}
        if ensemble > 1:
            members = {split: each.reshape(len(each), -1, ensemble) for split, each in by_split.items()}
            by_split = {split: each.mean(2) for split, each in members.items()}
            spread = {split: each.std(2, ddof=1) for split, each in members.items()}
            errors = _errors(wanted, by_split["validation"])
        return TrainedExperts(
            wanted.spec,
            self.hidden,
            wanted.targets,
            errors,
            self.best_epoch,
            by_split,
            experts or self.experts,
            energy,
            self.layer_mix,
            spread,
        )


def _errors(wanted: TrainingRequest, predictions: Float32[np.ndarray, "clips targets"]) -> dict[str, float]:
    """Mean absolute errors of validation clips, by target."""
    store = wanted.store
    columns = [store.targets.index(target) for target in wanted.targets]
    errors = np.abs(predictions - store.scores(store.rows("validation"))[:, columns])
    return dict(zip(wanted.targets, np.nanmean(errors, 0).tolist(), strict=True))


def saved(tensors: Tensors, path: Path) -> Path:
    """Write one expert; gives the file."""
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    return path
