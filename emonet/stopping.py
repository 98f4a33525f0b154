"""Each expert stops by its own validation error and goes back to its own best epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from emonet.experts import HeadBank


class ExpertStopping:
    """Keeps, for every expert, the weights of its best epoch.

    A zero gradient would not stop an optimiser's momentum and decay, so an expert that has run out of patience may
    go on moving; what it does then is not looked at, and `restore` undoes it. The result of an expert therefore does
    not depend on how long the others train.

    Args:
        bank: the experts.
        patience: epochs without a better error after which an expert stops.
    """

    def __init__(self, bank: HeadBank, patience: int) -> None:
        self._bank = bank
        self._patience = patience
        experts = len(bank.targets)
        self.best_errors = [math.inf] * experts
        self.best_epochs = [-1] * experts
        self._stopped = [False] * experts
        self._best: list[dict[str, Tensor]] = [{} for _ in range(experts)]

    @property
    def stopped(self) -> tuple[bool, ...]:
        """Which experts have stopped, in the bank's order."""
        return tuple(self._stopped)

    @property
    def all_stopped(self) -> bool:
        """Whether every expert has stopped."""
        return all(self._stopped)

    def update(self, epoch: int, errors: Sequence[float]) -> None:
        """Take in the validation errors of one epoch, in the bank's order.

        Args:
            epoch: counted from 0.
            errors: mean absolute error of each expert; NaN never counts as better.
        """
        for expert, error in enumerate(errors):
            if self._stopped[expert]:
                continue
            if error < self.best_errors[expert] or self.best_epochs[expert] < 0:
                self.best_errors[expert] = math.inf if math.isnan(error) else error
                self.best_epochs[expert] = epoch
                self._keep(expert)
            elif epoch - self.best_epochs[expert] >= self._patience:
                self._stopped[expert] = True

    def restore(self) -> None:
        """Give every expert the weights of its best epoch, and let go of the copies."""
        for expert, best in enumerate(self._best):
            if best:
                for key, tensor in self._bank.tensors(expert):  # views: writing to them sets the bank's weights
                    tensor.copy_(best[key])
                best.clear()

    def _keep(self, expert: int) -> None:
        best = self._best[expert]
        # Validation runs in inference mode, whose tensors nobody may write to afterwards.
        with torch.inference_mode(False), torch.no_grad():
            for key, tensor in self._bank.tensors(expert):
                if key not in best:
                    # On the CPU: on a GPU the optimiser already holds the weights four times.
                    best[key] = torch.empty_like(tensor, device="cpu")
                best[key].copy_(tensor)
