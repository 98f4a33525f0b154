"""Checkpoints within an epoch: every so many minutes, and before a signal ends the training."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from emonet.configs import CaptionerConfig
from emonet.runtime import shielded
from lightningmodules.team import Team

LAST = Path("last.ckpt")
PATIENCE = 20.0  # seconds that a signal waits for the end of a step; Slurm and Kubernetes kill 30 s after it
_SAVING = 600.0  # seconds that saving may take before a second signal cuts it short


class SavedError(Exception):
    """The training stopped, since a signal came to one of its processes; a checkpoint was written.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class StepSaver(Callback):  # type: ignore[misc]
    """Saves between two steps, all processes at the same one.

    Args:
        path: of the checkpoint, the one that a training goes on from.
        config: how often.
        team: the processes that train.
        waiting: says which signal has come to this process.
    """

    def __init__(self, path: Path, config: CaptionerConfig, team: Team, waiting: Callable[[], int | None]) -> None:
        self._path, self._team, self._waiting = path, team, waiting
        self._every, self._accumulate = 60 * config.save_every_minutes, config.accumulate
        self._saved = time.monotonic()
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Time begins, and our own handler is kept: Lightning's ends a training before anything is saved."""
        self._saved = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Stop, where a signal came after the last step of the epoch before: its checkpoint is there."""
        if number := self._team.highest((self._waiting() or 0,))[0]:
            raise SavedError(number)

    def on_train_batch_end(self, trainer: Trainer, *details: Any) -> None:
        """Save, or stop, where it is due in one of the processes; validation follows the epoch's last step."""
        if trainer.is_last_batch or (details[3] + 1) % self._accumulate:  # after the module, its outputs and the batch
            return
        due = time.monotonic() - self._saved >= self._every
        number, due_somewhere = self._team.highest((self._waiting() or 0, int(due)))
        if not number and not due_somewhere:
            return
        self._save(trainer)
        if number:
            raise SavedError(number)

    def on_validation_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Stop, before the epoch's figures are there: weights are those of its last step."""
        if number := self._team.highest((self._waiting() or 0,))[0]:
            self._save(trainer)
            raise SavedError(number)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Validate from the first batch on, when the training goes on: its sums so far are not in a checkpoint.

        Lightning goes back to a validation, not to the end of the epoch, where a batch of it has begun.
        """
        if trainer.validating:
            begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
            progress = {"total": begun, "current": begun, "is_last_batch": False}
            checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"] = progress

    def _save(self, trainer: Trainer) -> None:
        with shielded(_SAVING):
            trainer.save_checkpoint(self._path)
        self._saved = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Time begins anew: the epoch's own checkpoint is being written."""
        self._saved = time.monotonic()
