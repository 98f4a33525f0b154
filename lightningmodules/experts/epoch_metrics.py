"""Metrics of an epoch: validation means over all experts, UA, and the errors of those in training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
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
        experts: what all are called, in order.
        stopping: told the errors.
        targets: of each of them; by default experts are called as their targets.
        decides: the error by which experts stop.
    """

    def __init__(
        self,
        experts: Sequence[str],
        stopping: ExpertStopping,
        targets: Sequence[str] | None = None,
        *,
        decides: ScoreMetricName = "mae",
    ) -> None:
        self._experts, self._stopping, self._decides = experts, stopping, decides
        self._targets = dict(zip(experts, targets or experts, strict=True))
        self._best: dict[ScoreMetricName, dict[str, float]] = {name: {} for name in ("pearson", "ccc")}

    def take(
        self, epoch: int, trained: Sequence[str], figures: Mapping[ScoreMetricName, Sequence[float]]
    ) -> dict[str, float]:
        """Take in one epoch: `val_mae`, `val_pearson` and `val_ccc` are means, `val_mae/TARGET` is of its experts.

        An expert that has stopped counts in the means with its best epoch; a target all of whose experts have, alone no
        more. Correlations that are undefined are left out of means.

        Args:
            epoch: counted from 0.
            trained: the experts in training.
            figures: by metric, in their order.
        """
        going = [not stopped for stopped in self._stopping.stopped]
        self._stopping.update(epoch, figures["mae"], figures[self._decides])
        known = {
            name: {expert: value for expert, value, mine in zip(trained, values, going, strict=True) if mine}
            for name, values in figures.items()
        }
        at_best = {e for e, best in zip(self._experts, self._stopping.best_epochs, strict=True) if best == epoch}
        errors = dict(zip(self._experts, self._stopping.best_errors, strict=True)) | known["mae"]
        metrics = {"val_mae": sum(errors.values()) / len(errors)}
        for name, best in self._best.items():
            best.update((expert, value) for expert, value in known[name].items() if expert in at_best)
            if defined := [value for value in (best | known[name]).values() if not math.isnan(value)]:
                metrics[f"val_{name}"] = fmean(defined)
        return metrics | self._by_target(errors, known["mae"])

    def _by_target(self, errors: Mapping[str, float], going: Iterable[str]) -> dict[str, float]:
        """Mean errors of the experts of each target of which one is going."""
        found: dict[str, list[float]] = {self._targets[expert]: [] for expert in going}
        for expert, error in errors.items():
            if (target := self._targets[expert]) in found:
                found[target].append(error)
        return {f"val_mae/{target}": fmean(each) for target, each in found.items()}


@final
class EpochAccuracy:
    """UA over the classes that the experts tell apart, in which one that has stopped predicts as in its best epoch.

    Once all have stopped, it is the UA of the experts as they are kept.

    Args:
        accuracy: empty; of the targets of all experts.
        experts: what they are called, in order.
        stopping: knows which have stopped.
        targets: of each of them; by default experts are called as their targets. Experts of one target predict their
            mean.
    """

    def __init__(
        self,
        accuracy: UnweightedAccuracy,
        experts: Sequence[str],
        stopping: ExpertStopping,
        targets: Sequence[str] | None = None,
    ) -> None:
        self._accuracy, self._experts, self._stopping = accuracy, experts, stopping
        self._columns: dict[str, list[int]] = {}
        for column, target in enumerate(targets or experts):
            self._columns.setdefault(target, []).append(column)
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
            trained: the experts in training.
        """
        predictions, labels = (torch.cat(each) for each in zip(*self._batches, strict=True))
        if self._best is None:
            self._best = predictions.new_full((len(predictions), len(self._experts)), torch.nan)
        counted = self._best.clone()
        for now, expert, stopped in zip(predictions.T, trained, self._stopping.stopped, strict=True):
            column = self._experts.index(expert)
            if self._stopping.best_epochs[column] == epoch:
                self._best[:, column] = now
            if not stopped:
                counted[:, column] = now
        self._accuracy.reset()
        means = torch.stack([counted[:, columns].mean(1) for columns in self._columns.values()], 1)
        self._accuracy.update(means, labels)
        accuracy = float(self._accuracy.compute())
        return {} if math.isnan(accuracy) else {"val_ua": accuracy}
