"""Training of a captioner: checkpoints, resumes after a kill, keeps the best epoch, judges its captions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from datamodules.caption_batches import vocabulary_captions
from datamodules.captioner import CaptionDataModule
from emonet.captioner import add_timestamps, open_captioner, prompt_ids, window_of
from emonet.clips import Corpus, Rejection
from emonet.configs import CaptionerConfig
from emonet.corpora import SoundReport
from emonet.encoders import weights_identity
from emonet.errors import EmonetError
from emonet.runtime import resolve_device, resolve_precision
from emonet.schema import digest
from lightningmodules.alone import alone_on
from lightningmodules.captioner.generation import Generated, generate, hit_rate
from lightningmodules.captioner.module import MONITOR, CaptionerModule
from lightningmodules.captioner.progress import METRICS, CaptionerCallbacks, CaptionReport
from lightningmodules.guards import enough_memory, interruptible, quiet

_FINISHED = "finished"  # a file beside the checkpoints: all epochs are done
_LOG_EVERY = 10  # optimiser steps between training losses in the tracking run


@dataclass(frozen=True)
class FittedCaptioner:
    """A trained captioner with the weights of its best epoch, and how good it is.

    Args:
        model: in evaluation mode, on the CPU.
        processor: its feature extractor and tokenizer.
        metrics: val_loss, token_accuracy and emotion_hit_rate of the best epoch.
        epochs: passes over the training clips that were made (count).
        best_epoch: counted from 1.
        clips: used in each split (count).
        rejected: training and validation clips that were left out, with their reasons.
        samples: some validation clips with what the captioner writes.
        sounds: what was heard of the clips, where all of them fit into memory.
    """

    model: WhisperForConditionalGeneration
    processor: WhisperProcessor
    metrics: Mapping[str, float]
    epochs: int
    best_epoch: int
    clips: Mapping[str, int]
    rejected: tuple[Rejection, ...]
    samples: tuple[Generated, ...]
    sounds: SoundReport


def fit_captioner(
    corpus: Corpus,
    config: CaptionerConfig,
    *,
    seed: int,
    folder: Path,
    watch: CaptionerCallbacks,
    source: str | None = None,
    allow_copies: bool = False,
) -> FittedCaptioner:
    """Train a captioner; a run that was killed goes on from its last whole epoch.

    Args:
        corpus: clips with captions or scores.
        config: everything about the model and its training.
        seed: fixes weights, order, captions, dropout and augmentation; torch's own state is left as it was.
        folder: for checkpoints; the caller removes it when the captioner is saved.
        watch: who is told.
        source: what `config.model` resolves to, where it is a registry URI.
        allow_copies: train although the same sound is in two splits.

    Raises:
        RequestError: if model, window and corpus do not fit, or the same sound is in two splits.
        EmonetError: if the hub cannot be reached, or the GPU's memory does not suffice.
    """
    model, processor = open_captioner(config, lambda: vocabulary_captions(corpus, seed), seed, source)
    limit = model.config.max_target_positions
    with watch.show("decoding", "clips") as progress:
        data = CaptionDataModule(corpus, config, window_of(model), processor.tokenizer, limit, seed, progress)
    if not allow_copies:
        data.recordings.sounds.require_apart()
    for rejection in data.rejected:
        watch.say(f"left out {rejection.id}: {rejection.reason}")
    module = CaptionerModule(
        model,
        config,
        steps_per_epoch=data.steps_per_epoch,
        prompt_tokens=len(prompt_ids(processor.tokenizer)) - 1,
        seed=seed,
    )
    claim(
        folder,
        digest([corpus.fingerprint, config.distinguishing(), seed, weights_identity(source or config.model)]),
    )
    with torch.random.fork_rng(), enough_memory(config):
        best, epochs = _train(module, data, processor, folder, watch)
        model.load_state_dict(
            {
                name.removeprefix("model."): value
                for name, value in best["state_dict"].items()
                if name.startswith("model.")
            }
        )
        add_timestamps(model, processor.tokenizer)
        model.to(resolve_device())
        with watch.show("writing captions", "clips") as progress:
            heard = generate(model, processor, data.held_out(config.hit_clips), progress)
    metrics = {name: best[METRICS][name] for name in (MONITOR, "token_accuracy")}
    return FittedCaptioner(
        model.cpu(),
        processor,
        metrics | {"emotion_hit_rate": hit_rate(heard, corpus.targets)},
        epochs=epochs,
        best_epoch=best["epoch"] + 1,
        clips={"train": len(data.train_clips), "validation": len(data.validation_clips)},
        rejected=data.rejected,
        samples=heard[: config.sample_captions],
        sounds=data.recordings.sounds.report(),
    )


def claim(folder: Path, identity: str) -> None:
    """Keep the checkpoints in `folder` if they belong to the same training, else remove them.

    Args:
        folder: of the checkpoints.
        identity: a digest of all that fixes the training.
    """
    owner = folder / "identity.txt"
    if owner.is_file() and owner.read_bytes() == identity.encode():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in (owner, folder / _FINISHED, *folder.glob("*.ckpt")):
        leftover.unlink(missing_ok=True)
    owner.write_text(identity, "utf-8")


def _train(
    module: CaptionerModule,
    data: CaptionDataModule,
    processor: WhisperProcessor,
    folder: Path,
    watch: CaptionerCallbacks,
) -> tuple[dict[str, Any], int]:
    """The best epoch's checkpoint, and how many epochs were made."""
    last, best, finished = folder / "last.ckpt", folder / "best.ckpt", folder / _FINISHED
    if damaged := [path.name for path in (last, best) if path.exists() and not is_zipfile(path)]:
        watch.say(f"{' and '.join(damaged)} of a run that was cut short cannot be read; starting from the beginning")
        for path in (last, best, finished):
            path.unlink(missing_ok=True)
    if not finished.exists():
        if last.exists():
            watch.say("going on from the last whole epoch of a run that was cut short")
        with watch.show("training", "clips") as progress, quiet(), interruptible():
            report = CaptionReport(processor, data.corpus.targets, module.config, watch, progress)
            trainer = _trainer(module.config, folder, watch, report)
            trainer.fit(module, datamodule=data, ckpt_path=last if last.exists() else None, weights_only=False)
        finished.touch()
    # Written by this training (see `claim`), so that unpickling is safe; it holds more than tensors.
    checkpoint: dict[str, Any] = torch.load(best, map_location="cpu", weights_only=False)
    epochs = torch.load(last, map_location="cpu", weights_only=False)["epoch"] + 1
    if not math.isfinite(checkpoint[METRICS][MONITOR]):
        raise EmonetError(
            "the captioner's training diverged: its validation loss is not a number",
            expected="a finite loss",
            found=f"{checkpoint[METRICS][MONITOR]} after epoch {epochs}",
            hint=f"--captioner.learning-rate {module.config.learning_rate / 10:g}",
        )
    return checkpoint, epochs


def _trainer(config: CaptionerConfig, folder: Path, watch: CaptionerCallbacks, report: Callback) -> Trainer:
    device = resolve_device()
    best = ModelCheckpoint(folder, "best", monitor=MONITOR, save_on_train_epoch_end=True, enable_version_counter=False)
    # Not `save_last`, which keeps the last epoch that was an improvement.
    last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    patience = EarlyStopping(MONITOR, patience=config.patience, check_on_train_epoch_end=True)
    return Trainer(
        **alone_on(device),
        precision="bf16-mixed" if resolve_precision(config.precision, device) == "bf16" else "32-true",
        max_epochs=config.epochs,
        accumulate_grad_batches=config.accumulate,
        gradient_clip_val=config.gradient_clip,
        callbacks=[report, patience, best, last],
        logger=watch.logger,
        log_every_n_steps=_LOG_EVERY,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
