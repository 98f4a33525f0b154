"""Training of the experts: the bank, its loss, its optimiser and its stopping, wired."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from lightning import LightningModule
from torch import Tensor

from datamodules.experts import Batch
from emonet.configs import HeadsConfig
from emonet.experts import HeadBank
from emonet.runtime import Progress, silent
from emonet.training import BankOptimiser, ExpertStopping, absolute_errors, expert_losses, going_on

Report = Callable[[Mapping[str, float], int], None]
"""Called with metrics and the epoch (counted from 0)."""


def unreported(_metrics: Mapping[str, float], _epoch: int) -> None:
    """Report to nobody."""


class HeadsModule(LightningModule):  # type: ignore[misc]
    """Trains a `HeadBank`; afterwards `stopping.restore()` gives every expert its best epoch.

    Every expert is trained exactly as it would be alone: its start, dropout, loss, optimiser and stopping are its own.
    Those that have stopped are left out of the steps as soon as that makes them cheaper.

    Args:
        bank: the experts, one per score of a batch.
        config: loss, epochs, patience, optimiser.
        report: gets each epoch's training loss and validation MAE, in the mean and by target. An expert that has
            stopped counts in the mean with its best error, and by target no more.
        progress: called with the number of finished steps, and the epoch.
    """

    def __init__(
        self,
        bank: HeadBank,
        config: HeadsConfig,
        *,
        report: Report = unreported,
        progress: Progress = silent,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # the backward pass updates the first layer by itself
        self.bank = self.trained = bank
        self.stopping = ExpertStopping(bank, config.patience)
        self._config = config
        self._report = report
        self._progress = progress
        self._optimiser: BankOptimiser | None = None
        self._steps = self._total = 0  # done, and of all epochs
        self._losses: list[Tensor] = []
        self._errors: list[tuple[Tensor, Tensor]] = []
        self._columns: Tensor | None = None  # of the scores, that the experts in training have

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over all experts; the bank is where it is trained by now."""
        self._optimiser = BankOptimiser(
            self.bank,
            learning_rate=self._config.learning_rate,
            weight_decay=self._config.weight_decay,
            precision=self._config.precision,
            state=self._config.optimiser_state,
        )
        return self._optimiser.others

    def on_train_start(self) -> None:
        """Show that nothing is done yet."""
        self._steps, self._total = 0, self._config.epochs * int(self.trainer.num_training_batches)
        self._progress(0, self._total)

    def on_train_epoch_start(self) -> None:
        """Go on without experts that have stopped."""
        assert self._optimiser is not None
        going = going_on(self.stopping.stopped)
        if len(going) == len(self.trained.targets) or not self._optimiser.can_narrow:
            return
        bank = self.trained.narrowed(going)
        self._optimiser = self._optimiser.narrowed(bank, going)
        self.stopping.narrow(bank)
        self.trained = bank
        columns = [self.bank.targets.index(target) for target in bank.targets]
        self._columns = torch.tensor(columns, device=bank.first.bias.device)

    def training_step(self, batch: Batch) -> None:
        """One step by the sum over experts of each expert's own loss."""
        scores, weights = self._mine(batch.scores), self._mine(batch.weights)
        losses = expert_losses(self.trained(batch.features), scores, weights, self._config.loss)
        self.manual_backward(losses.sum())
        assert self._optimiser is not None
        self._optimiser.step()
        self._losses.append(losses.detach().mean())
        self._steps += 1
        self._progress(self._steps, self._total, f"epoch {self.current_epoch + 1} of {self._config.epochs}")

    def on_validation_epoch_start(self) -> None:
        """Forget the last epoch's errors."""
        self._errors = []

    def validation_step(self, batch: Batch) -> None:
        """Add up each expert's absolute errors."""
        self._errors.append(absolute_errors(self.trained(batch.features), self._mine(batch.scores)))

    def on_validation_epoch_end(self) -> None:
        """Hand each expert's own error to its early stopping, and end when all have stopped."""
        totals, counts = (torch.stack(parts).sum(0) for parts in zip(*self._errors, strict=True))
        errors = (totals / counts).tolist()
        going = [not stopped for stopped in self.stopping.stopped]
        self.stopping.update(self.current_epoch, errors)
        if self._optimiser is not None:
            self._optimiser.rest(self.stopping.stopped)
        self._report(self._metrics(errors, going), self.current_epoch)
        self._losses = []
        if self.stopping.all_stopped:
            self.trainer.should_stop = True
            self._progress(self._total, self._total)

    def on_train_end(self) -> None:
        """Free the optimiser's memory before the experts are put together."""
        if self._optimiser is not None:
            self._optimiser.detach()
            self._optimiser = None
        self.trained, self._columns = self.bank, None

    def _mine(self, values: Tensor) -> Tensor:
        return values if self._columns is None else values[:, self._columns]

    def _metrics(self, errors: list[float], going: list[bool]) -> dict[str, float]:
        trained = zip(self.trained.targets, errors, going, strict=True)
        known = {target: error for target, error, mine in trained if mine}
        every = dict(zip(self.bank.targets, self.stopping.best_errors, strict=True)) | known
        return {
            "train_loss": float(torch.stack(self._losses).mean()),
            "val_mae": sum(every.values()) / len(every),
            **{f"val_mae/{target}": error for target, error in known.items()},
        }
