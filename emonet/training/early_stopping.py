"""Early stopping by expert: each stops by its own validation error and goes back to its own best epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from emonet.experts import ExpertBank

TOGETHER = 16  # experts go on in such numbers: products and vector units then round as if none had left


def active_experts(stopped: Sequence[bool]) -> list[int]:
    """Positions of the experts to train on with: those that have not stopped, filled up to a multiple of `TOGETHER`.

    Args:
        stopped: by expert.
    """
    order = sorted(range(len(stopped)), key=lambda expert: stopped[expert])  # stable: those that go on come first
    needed = len(stopped) - sum(stopped)
    return sorted(order[: -(-needed // TOGETHER) * TOGETHER])


class ExpertStopping:
    """Keeps, for every expert, the weights of its best epoch.

    A zero gradient would not stop an optimiser's momentum and decay, so an expert that has run out of patience may
    go on moving; what it does then is not looked at, and `restore` undoes it. The result of an expert therefore does
    not depend on how long the others train.

    Args:
        bank: the experts, which are all in training at first.
        patience: epochs without a better error after which an expert stops.
    """

    def __init__(self, bank: ExpertBank, patience: int) -> None:
        self._bank = self._trained = bank
        self._members: Sequence[int] = range(len(bank.targets))
        self._patience = patience
        experts = len(bank.targets)
        self.best_errors = [math.inf] * experts
        self._least = [math.inf] * experts  # by what decides
        self.best_epochs = [-1] * experts
        self._stopped = [False] * experts
        self._best: list[dict[str, Tensor]] = [{} for _ in range(experts)]

    @property
    def stopped(self) -> tuple[bool, ...]:
        """Which of the experts in training have stopped, in their order."""
        return tuple(self._stopped[expert] for expert in self._members)

    @property
    def all_stopped(self) -> bool:
        """Whether every expert has stopped."""
        return all(self._stopped)

    def update(self, epoch: int, errors: Sequence[float], deciding: Sequence[float] | None = None) -> None:
        """Take in the validation errors of one epoch.

        Args:
            epoch: counted from 0.
            errors: mean absolute error of each expert in training, in their order.
            deciding: the errors by which an epoch is better, by default these; NaN never counts as better.
        """
        each = zip(self._members, errors, deciding or errors, strict=True)
        for position, (expert, error, decides) in enumerate(each):
            if self._stopped[expert]:
                continue
            if decides < self._least[expert] or self.best_epochs[expert] < 0:
                self._least[expert] = math.inf if math.isnan(decides) else decides
                self.best_errors[expert] = math.inf if math.isnan(error) else error
                self.best_epochs[expert] = epoch
                self._keep(expert, position)
            elif epoch - self.best_epochs[expert] >= self._patience:
                self._stopped[expert] = True

    def narrow(self, bank: ExpertBank) -> None:
        """From now on these experts alone are in training, in a bank of their own."""
        self._trained = bank
        self._members = [self._bank.targets.index(target) for target in bank.targets]

    def restore(self) -> None:
        """Give every expert the weights of its best epoch, and let go of the copies."""
        for expert, best in enumerate(self._best):
            if best:
                for key, tensor in self._bank.tensors(expert):  # views: writing to them sets the bank's weights
                    tensor.copy_(best[key])
                best.clear()

    def _keep(self, expert: int, position: int) -> None:
        best = self._best[expert]
        # Validation runs in inference mode, whose tensors nobody may write to afterwards.
        with torch.inference_mode(False), torch.no_grad():
            for key, tensor in self._trained.tensors(position):
                if key in best:
                    best[key].copy_(tensor)
                else:  # in the processor's memory: on a GPU the optimiser already holds the weights four times
                    best[key] = fetched(tensor)


def fetched(tensor: Tensor) -> Tensor:
    """A copy in the processor's memory."""
    if not tensor.is_cuda:
        return tensor.clone()
    # Its pages first: into those that the system has yet to make, a GPU copies at a fifteenth of its rate.
    return torch.zeros_like(tensor, device="cpu").copy_(tensor)
