"""Metrics of an epoch: validation means over all experts, and the errors of those in training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import final

from emonet.training import ExpertStopping, ScoreMetricName


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
