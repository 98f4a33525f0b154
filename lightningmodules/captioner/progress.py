"""Progress of a captioner's training: clips per second, a line and some captions per epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from transformers import WhisperProcessor

from datamodules.caption_batches import CaptionBatch
from emonet.captioner import rated_in_words
from emonet.configs import CaptionerConfig
from emonet.runtime import Progress, ShowProgress, ignore
from emonet.targets import TargetSpec
from lightningmodules.captioner.generation import Generated, generate

METRICS = "metrics"  # key of the epoch's figures in a checkpoint


@dataclass(frozen=True)
class CaptionerCallbacks:
    """Who is told how training goes.

    Args:
        show: opens a progress callback.
        say: takes a line for the person who watches.
        note: keeps a text under a file name, e.g. in the tracking run.
        logger: a Lightning logger, or False.
        report: gets each epoch's metrics, with the epoch counted from 0; what it raises ends the training.
    """

    show: ShowProgress
    say: Callable[[str], None]
    note: Callable[[str, str], None] = ignore
    logger: Any = False
    report: Callable[[Mapping[str, float], int], None] = ignore


class CaptionReport(Callback):  # type: ignore[misc]
    """Counts clips, and after each epoch says how good the captioner is and what it writes.

    Args:
        processor: decodes captions.
        spec: what the scores mean.
        config: epochs, and how many sample captions.
        watch: who is told.
        progress: told about training clips, over all epochs.
        waiting: tells whether a signal waits for the epoch's checkpoint, which sample captions would hold up.
    """

    def __init__(
        self,
        processor: WhisperProcessor,
        spec: TargetSpec,
        config: CaptionerConfig,
        watch: CaptionerCallbacks,
        progress: Progress,
        waiting: Callable[[], object] = ignore,
    ) -> None:
        self._processor, self._spec, self._config = processor, spec, config
        self._watch, self._progress, self._waiting = watch, progress, waiting
        self._done = self._total = 0
        self._values = dict[str, float]()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Start counting, from where a resumed run begins."""
        self._total = len(trainer.datamodule.train_clips) * self._config.epochs
        resumed = trainer.fit_loop.restarting  # within an epoch
        batches = trainer.fit_loop.epoch_loop.batch_progress.current.ready * trainer.world_size if resumed else 0
        self._count(trainer, batches)

    def on_train_batch_end(self, trainer: Trainer, *details: Any) -> None:
        """Count the clips, also those of other processes."""
        batch: CaptionBatch = details[2]  # after the module and its outputs
        self._count(trainer, batch.number + trainer.world_size)

    def _count(self, trainer: Trainer, batches: int) -> None:
        """So many batches of the epoch are done."""
        clips = len(trainer.datamodule.train_clips)
        self._done = clips * trainer.current_epoch + min(clips, batches * self._config.batch_size)
        self._progress(self._done, self._total)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A line with the epoch's figures, and sample captions."""
        self._values = values = self._values | _metrics(trainer)
        epoch = trainer.current_epoch + 1
        self._watch.say(
            f"epoch {epoch} of {self._config.epochs}: training loss {values['train_loss']:.3f}, "
            f"validation loss {values['val_loss']:.3f}, token accuracy {values['token_accuracy']:.3f}"
        )
        if self._config.sample_captions and self._waiting() is None:
            clips = trainer.datamodule.held_out(self._config.sample_captions)
            samples = generate(pl_module.model, self._processor, clips, waiting=self._waiting)
            lines = sample_lines(samples, self._spec)
            for line in lines:
                self._watch.say(f"  {line}")
            self._watch.note("\n".join(lines) + "\n", f"captions/epoch-{epoch:03d}.txt")
        self._watch.report(values, trainer.current_epoch)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Keep the figures with the weights that they belong to."""
        checkpoint[METRICS] = self._values | _metrics(trainer)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Take up the figures: an epoch that goes on with its validation has no training loss of its own."""
        self._values = dict(checkpoint[METRICS])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Training that stops early has done all it will do."""
        self._progress(self._done, self._done)


def _metrics(trainer: Trainer) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def sample_lines(samples: Sequence[Generated], spec: TargetSpec) -> list[str]:
    """`ravdess/03-...: strongest anger; "The speaker feels intense rage."`, one line per clip."""
    return [f'{one.clip.id}: {rated_in_words(one.clip.scores, spec)}; "{one.caption}"' for one in samples]
