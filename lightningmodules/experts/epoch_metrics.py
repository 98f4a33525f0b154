"""Metrics of an epoch: validation means over all experts, UA, and the errors of those in training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from emonet.training import ExpertStopping, ScoreMetricName, UnweightedAccuracy


@final
class EpochMetrics:
    """Hands each expert's error to its early stopping, and keeps what an expert that has stopped counts with.

    Args:
        targets: of all experts, in order.
        stopping: told the errors.
    """

    def __init__(self, targets: Sequence[str], stopping: ExpertStopping) -> None:
        self._targets, self._stopping = targets, stopping
        self._best: dict[ScoreMetricName, dict[str, float]] = {name: {} for name in ("pearson", "ccc")}

    def take(
        self, epoch: int, trained: Sequence[str], figures: Mapping[ScoreMetricName, Sequence[float]]
    ) -> dict[str, float]:
        """Take in one epoch: `val_mae`, `val_pearson` and `val_ccc` are means, `val_mae/TARGET` is of an expert.

        An expert that has stopped counts in the means with its best epoch, and alone no more. Correlations that are
        undefined are left out of means.

        Args:
            epoch: counted from 0.
            trained: targets of the experts in training.
            figures: by metric, in their order.
        """
        going = [not stopped for stopped in self._stopping.stopped]
        self._stopping.update(epoch, figures["mae"])
        known = {
            name: {target: value for target, value, mine in zip(trained, values, going, strict=True) if mine}
            for name, values in figures.items()
        }
        at_best = {t for t, best in zip(self._targets, self._stopping.best_epochs, strict=True) if best == epoch}
        errors = dict(zip(self._targets, self._stopping.best_errors, strict=True)) | known["mae"]
        metrics = {"val_mae": sum(errors.values()) / len(errors)}
        for name, best in self._best.items():
            best.update((target, value) for target, value in known[name].items() if target in at_best)
            if defined := [value for value in (best | known[name]).values() if not math.isnan(value)]:
                metrics[f"val_{name}"] = fmean(defined)
        return metrics | {f"val_mae/{target}": error for target, error in known["mae"].items()}


@final
class EpochAccuracy:
    """UA over the classes that the experts tell apart, in which one that has stopped predicts as in its best epoch.

    Once all have stopped, it is the UA of the experts as they are kept.

    Args:
        accuracy: empty; of all experts.
        targets: theirs, in order.
        stopping: knows which have stopped.
    """

    def __init__(self, accuracy: UnweightedAccuracy, targets: Sequence[str], stopping: ExpertStopping) -> None:
        self._accuracy, self._targets, self._stopping = accuracy, targets, stopping
        self._batches: list[tuple[Tensor, Tensor]] = []
        self._best: Tensor | None = None

    def reset(self) -> None:
        """Forget the last epoch's clips."""
        self._batches = []

    def add(self, predictions: Float[Tensor, "batch trained"], labels: Int64[Tensor, " batch"]) -> None:
        """Take in a batch; the clips of each epoch come in the same order.

        Args:
            predictions: of the experts in training.
            labels: position of each clip's class, or `NO_CLASS`.
        """
        self._batches.append((predictions, labels))

    def take(self, epoch: int, trained: Sequence[str]) -> dict[str, float]:
        """`val_ua` of the epoch (0 to 1), on all devices; nothing where no clip has a class.

        Args:
            epoch: counted from 0; the stopping has heard of it.
            trained: targets of the experts in training.
        """
        predictions, labels = (torch.cat(each) for each in zip(*self._batches, strict=True))
        if self._best is None:
            self._best = predictions.new_full((len(predictions), len(self._targets)), torch.nan)
        counted = self._best.clone()
        for now, target, stopped in zip(predictions.T, trained, self._stopping.stopped, strict=True):
            column = self._targets.index(target)
            if self._stopping.best_epochs[column] == epoch:
                self._best[:, column] = now
            if not stopped:
                counted[:, column] = now
        self._accuracy.reset()
        self._accuracy.update(counted, labels)
        accuracy = float(self._accuracy.compute())
        return {} if math.isnan(accuracy) else {"val_ua": accuracy}
