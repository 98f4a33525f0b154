"""LightningModule of the experts: the bank, its loss, its optimiser and its stopping."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from lightning import LightningModule
from torch import Tensor

from datamodules.experts import Batch
from emonet.configs import HeadsConfig
from emonet.experts import ExpertBank
from emonet.runtime import Progress, ignore
from emonet.training import (
    BankOptimiser,
    ExpertStopping,
    ScoreMetricName,
    ScoreMetrics,
    UnweightedAccuracy,
    active_experts,
    expert_losses,
    fetched,
)
from lightningmodules.experts.epoch_metrics import EpochAccuracy, EpochMetrics

Report = Callable[[Mapping[str, float], int], None]
"""Called with metrics and the epoch (counted from 0)."""


class ExpertsModule(LightningModule):  # type: ignore[misc]
    """Trains an `ExpertBank`; afterwards `stopping.restore()` gives every expert its best epoch.

    Every expert is trained exactly as it would be alone: its start, dropout, loss, optimiser and stopping are its own.
    Those that have stopped are left out of the steps as soon as that makes them cheaper.

    Args:
        bank: the experts, one per score of a batch.
        config: loss, epochs, patience, optimiser. Under mse experts stop by their squared error, else by the absolute.
        targets: of each expert; by default experts are called as their targets.
        accuracy: of the classes that all of the experts tell apart; None where they tell none, or not all.
        report: gets each epoch's training loss and validation metrics, as `EpochMetrics` and `EpochAccuracy` name them.
        progress: called with the number of finished steps, and the epoch.
    """

    def __init__(
        self,
        bank: ExpertBank,
        config: HeadsConfig,
        *,
        targets: Sequence[str] | None = None,
        accuracy: UnweightedAccuracy | None = None,
        report: Report = ignore,
        progress: Progress = ignore,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # the backward pass updates the first layer by itself
        self.bank = self.trained = bank
        self.stopping = ExpertStopping(bank, config.patience)
        assert config.loss != "auto", "what it stands for depends on all scores"
        self._config, self._loss = config, config.loss
        self._report = report
        self._progress = progress
        self._optimiser: BankOptimiser | None = None
        self._steps = self._total = 0  # done, and of all epochs
        self._losses: list[Tensor] = []
        self._validation = ScoreMetrics()
        decides: ScoreMetricName = "rmse" if config.loss == "mse" else "mae"
        self._metrics = EpochMetrics(bank.targets, self.stopping, targets, decides=decides)
        self.accuracy = accuracy  # here, too, so that it goes to the device
        self._classes = None if accuracy is None else EpochAccuracy(accuracy, bank.targets, self.stopping, targets)
        self._columns: Tensor | None = None  # of the scores, that the experts in training have

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over all experts; the bank is where it is trained by now."""
        self._optimiser = BankOptimiser(
            self.bank,
            learning_rate=self._config.learning_rate,
            weight_decay=self._config.weight_decay,
            precision=self._config.precision,
        )
        return self._optimiser.others

    def on_train_start(self) -> None:
        """Show that nothing is done yet."""
        self._steps, self._total = 0, self._config.epochs * int(self.trainer.num_training_batches)
        self._progress(0, self._total)

    def on_train_epoch_start(self) -> None:
        """Go on without experts that have stopped."""
        assert self._optimiser is not None
        going = active_experts(self.stopping.stopped)
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
        losses = expert_losses(self.trained(batch.features), scores, weights, self._loss)
        self.manual_backward(losses.sum())
        assert self._optimiser is not None
        self._optimiser.step()
        self._losses.append(losses.detach().mean())
        self._steps += 1
        self._progress(self._steps, self._total, f"epoch {self.current_epoch + 1} of {self._config.epochs}")

    def on_validation_epoch_start(self) -> None:
        """Forget the last epoch's clips."""
        self._validation.reset()
        if self._classes is not None:
            self._classes.reset()

    def validation_step(self, batch: Batch) -> None:
        """Take in each expert's predictions."""
        predictions = self.trained(batch.features)
        self._validation.update(predictions, self._mine(batch.scores))
        if self._classes is not None and batch.labels is not None:
            self._classes.add(predictions, batch.labels)

    def on_validation_epoch_end(self) -> None:
        """Hand each expert's own error to its early stopping, and end when all have stopped."""
        metrics = self._metrics.take(self.current_epoch, self.trained.targets, self._validation.by_target())
        if self._classes is not None:
            metrics |= self._classes.take(self.current_epoch, self.trained.targets)
        if self._optimiser is not None:
            self._optimiser.freeze(self.stopping.stopped)
        self._report({"train_loss": float(torch.stack(self._losses).mean()), **metrics}, self.current_epoch)
        self._losses = []
        if self.stopping.all_stopped:
            self.trainer.should_stop = True
            self._progress(self._total, self._total)

    def on_train_end(self) -> None:
        """Free the optimiser's memory before the experts are put together."""
        if self._optimiser is not None:
            self._optimiser.detach()
            self._optimiser = None
        weight = self.bank.first.weight
        if weight.is_cuda:  # Lightning moves the bank next, which takes twice as long for nearly all of it
            weight.data = fetched(weight.data)
        self.trained, self._columns = self.bank, None

    def _mine(self, values: Tensor) -> Tensor:
        return values if self._columns is None else values[:, self._columns]
