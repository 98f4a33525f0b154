"""Training of a captioner: checkpoints, resumes after a kill, keeps the best epoch, judges its captions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from transformers import WhisperForConditionalGeneration, WhisperProcessor
from transformers.models.whisper.modeling_whisper import WhisperDecoderLayer, WhisperEncoderLayer

from datamodules.caption_batches import vocabulary_captions
from datamodules.captioner import CaptionDataModule
from emonet.captioner import add_timestamps, open_captioner, prompt_ids, window_of
from emonet.clips import Corpus, Rejection
from emonet.configs import CaptionerConfig
from emonet.corpora import SoundReport
from emonet.encoders import weights_identity
from emonet.errors import EmonetError
from emonet.runtime import ignore, resolve_device, resolve_precision, signals
from emonet.schema import digest
from lightningmodules.captioner.generation import Generated, generate, hit_rate
from lightningmodules.captioner.module import MONITOR, CaptionerModule
from lightningmodules.captioner.progress import METRICS, CaptionerCallbacks, CaptionReport
from lightningmodules.captioner.saving import LAST, PATIENCE, SavedError, StepSaver
from lightningmodules.guards import enough_memory, interruptible, quiet
from lightningmodules.ranks import Place, place_of
from lightningmodules.team import TRAIN, Team, joined, sources_digest

BEST = Path("best.ckpt")
_FINISHED = "finished"  # a file beside the checkpoints: all epochs are done
_DONE, _GO_ON, _AFRESH = "done", "go on", "afresh"
_NO_SAMPLES = {"sample_captions": 0}
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


@dataclass(frozen=True)
class CaptionTask:
    """What a captioner is trained on, and how: the same in all processes of a training.

    Args:
        corpus: clips with captions or scores.
        config: everything about the model and its training.
        seed: fixes weights, order, captions, dropout and augmentation.
        folder: for checkpoints; of several machines, each has to see it under this name.
        source: what `config.model` resolves to, where it is a registry URI.
        allow_copies: train although the same sound is in two splits.
    """

    corpus: Corpus
    config: CaptionerConfig
    seed: int
    folder: Path
    source: str | None = None
    allow_copies: bool = False

    def __call__(self, place: Place) -> None:
        """Be one of the processes that the first one has started."""
        with joined(place) as team:
            follow_captioner(self, team)

    def facts(self) -> dict[str, str]:
        """What has to be the same in all processes."""
        return {
            "emonet's code": sources_digest(),
            "torch": torch.__version__,
            "the corpus": self.corpus.fingerprint,
            "the configuration": digest(self.config.model_dump(mode="json")),
            "the seed": str(self.seed),
            "the model's weights": weights_identity(self.source or self.config.model),
        }

    @property
    def identity(self) -> str:
        """A digest of all that fixes the training."""
        settings = self.config.distinguishing(exclude=self.config.how_fields)
        weights = weights_identity(self.source or self.config.model)
        return digest([self.corpus.fingerprint, settings, self.seed, weights])


def fit_captioner(
    corpus: Corpus,
    config: CaptionerConfig,
    *,
    seed: int,
    folder: Path,
    watch: CaptionerCallbacks,
    source: str | None = None,
    allow_copies: bool = False,
    team: Team | None = None,
) -> FittedCaptioner:
    """Train a captioner; a run that was cut short goes on from its last checkpoint.

    Args:
        corpus: clips with captions or scores.
        config: everything about the model and its training.
        seed: fixes weights, order, captions, dropout and augmentation; torch's own state is left as it was.
        folder: for checkpoints; the caller removes it when the captioner is saved.
        watch: who is told.
        source: what `config.model` resolves to, where it is a registry URI.
        allow_copies: train although the same sound is in two splits.
        team: the processes that train, which this one leads; by default those that the configuration asks for are
            started here. The others call `follow_captioner`.

    Raises:
        RequestError: if model, window and corpus do not fit, the same sound is in two splits, or devices are missing.
        EmonetError: if the hub cannot be reached, the GPU's memory does not suffice, or a process is lost.
    """
    task = CaptionTask(corpus, config, seed, folder, source, allow_copies)
    if team is not None:
        return _lead(task, team, watch)
    with joined(place_of(config.devices, config.num_nodes), task) as own:
        return _lead(task, own, watch)


def follow_captioner(task: CaptionTask, team: Team) -> None:
    """Train beside the process that leads the team, which writes files and speaks, until it wants nothing more.

    Raises:
        EmonetError: if something fails here, or a process is lost.
    """
    watch = CaptionerCallbacks(lambda *_: nullcontext(ignore), ignore)
    while team.order() == TRAIN:
        with torch.random.fork_rng(), enough_memory(task.config):
            _train(task, _prepared(task, team, watch), team, watch)


def _lead(task: CaptionTask, team: Team, watch: CaptionerCallbacks) -> FittedCaptioner:
    team.order(TRAIN)
    ready = _prepared(task, team, watch)
    for rejection in ready.data.rejected:
        watch.say(f"left out {rejection.id}: {rejection.reason}")
    claim(task.folder, task.identity)
    with torch.random.fork_rng(), enough_memory(task.config):
        _train(task, ready, team, watch)
        return _judged(task, ready, team, watch, *_best(task))


@dataclass(frozen=True)
class _Ready:
    """What is trained, and on what."""

    module: CaptionerModule
    data: CaptionDataModule
    processor: WhisperProcessor


def _prepared(task: CaptionTask, team: Team, watch: CaptionerCallbacks) -> _Ready:
    corpus, config, seed = task.corpus, task.config, task.seed
    team.agree(task.facts() if team.part[1] > 1 else {})
    team.require(config.strategy)  # what is impossible is refused before anything is decoded
    model, processor = open_captioner(config, lambda: vocabulary_captions(corpus, seed), seed, task.source)
    limit = model.config.max_target_positions
    with watch.show("decoding", "clips") as progress:
        data = CaptionDataModule(
            corpus,
            config,
            window_of(model),
            processor.tokenizer,
            limit,
            seed,
            progress,
            part=team.part,
            together=lambda lost: frozenset[str]().union(*team.gather(list(lost))),
        )
    if not task.allow_copies:
        data.recordings.sounds.require_apart()
    module = CaptionerModule(
        model,
        config,
        steps_per_epoch=data.steps_per_epoch,
        prompt_tokens=len(prompt_ids(processor.tokenizer)) - 1,
        seed=seed,
    )
    return _Ready(module, data, processor)


def _judged(
    task: CaptionTask, ready: _Ready, team: Team, watch: CaptionerCallbacks, best: dict[str, Any], epochs: int
) -> FittedCaptioner:
    """The model with the best epoch's weights, and how good its captions are."""
    model, processor, data = ready.module.model, ready.processor, ready.data
    if team.shards_weights(task.config.strategy):  # which has changed the model
        model = open_captioner(
            task.config, lambda: vocabulary_captions(task.corpus, task.seed), task.seed, task.source
        )[0]
    model.load_state_dict(
        {name.removeprefix("model."): value for name, value in best["state_dict"].items() if name.startswith("model.")}
    )
    add_timestamps(model, processor.tokenizer)
    model.to(resolve_device())
    with watch.show("writing captions", "clips") as progress:
        heard = generate(model, processor, data.held_out(task.config.hit_clips), progress)
    metrics = {name: best[METRICS][name] for name in (MONITOR, "token_accuracy")}
    return FittedCaptioner(
        model.cpu(),
        processor,
        metrics | {"emotion_hit_rate": hit_rate(heard, task.corpus.targets)},
        epochs=epochs,
        best_epoch=best["epoch"] + 1,
        clips={"train": len(data.train_clips), "validation": len(data.validation_clips)},
        rejected=data.rejected,
        samples=heard[: task.config.sample_captions],
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


def _train(task: CaptionTask, ready: _Ready, team: Team, watch: CaptionerCallbacks) -> None:
    """Train until all epochs are done; what is left of an earlier run is taken up."""
    last, start, module = (
        task.folder / LAST,
        team.share(_left(task.folder, watch) if team.leads else _DONE),
        ready.module,
    )
    if start == _DONE:
        return
    with watch.show("training", "clips") as progress, quiet(), interruptible(), signals.held(PATIENCE) as waiting:
        # One process alone cannot write captions with weights that all have parts of.
        settings = (
            CaptionerConfig.model_validate({**dict(module.config), **_NO_SAMPLES})
            if team.shards_weights(module.config.strategy)
            else module.config
        )
        report = CaptionReport(ready.processor, task.corpus.targets, settings, watch, progress, waiting)
        saver = StepSaver(last, module.config, team, waiting)
        trainer = build_trainer(module.config, task.folder, watch, [report, saver] if team.leads else [saver], team)
        try:
            trainer.fit(module, datamodule=ready.data, ckpt_path=last if start == _GO_ON else None, weights_only=False)
        except SavedError as saved:
            signals.stop(saved.number)
    if team.leads:
        (task.folder / _FINISHED).touch()


def _left(folder: Path, watch: CaptionerCallbacks) -> str:
    """Where to start: what an earlier run has left in the folder."""
    last, best, finished = folder / LAST, folder / BEST, folder / _FINISHED
    if damaged := [path.name for path in (last, best) if path.exists() and not is_zipfile(path)]:
        watch.say(f"{' and '.join(damaged)} of a run that was cut short cannot be read; starting from the beginning")
        for path in (last, best, finished):
            path.unlink(missing_ok=True)
    if finished.exists():
        return _DONE
    if last.exists():
        watch.say("going on from the last checkpoint of a run that was cut short")
        return _GO_ON
    return _AFRESH


def _best(task: CaptionTask) -> tuple[dict[str, Any], int]:
    """The best epoch's checkpoint, and how many epochs were made."""
    # Written by this training (see `claim`), so that unpickling is safe; it holds more than tensors.
    checkpoint: dict[str, Any] = torch.load(task.folder / BEST, map_location="cpu", weights_only=False)
    epochs = torch.load(task.folder / LAST, map_location="cpu", weights_only=False)["epoch"] + 1
    if not math.isfinite(checkpoint[METRICS][MONITOR]):
        raise EmonetError(
            "the captioner's training diverged: its validation loss is not a number",
            expected="a finite loss",
            found=f"{checkpoint[METRICS][MONITOR]} after epoch {epochs}",
            hint=f"--captioner.learning-rate {task.config.learning_rate / 10:g}",
        )
    return checkpoint, epochs


def build_trainer(
    config: CaptionerConfig, folder: Path, watch: CaptionerCallbacks, callbacks: list[Callback], team: Team
) -> Trainer:
    """The Trainer of a captioner.

    Args:
        config: epochs, arithmetic, clipping, patience.
        folder: for the checkpoints of epochs.
        watch: whose logger it gets.
        callbacks: beside those that save and stop.
        team: the processes that train.
    """
    best = ModelCheckpoint(
        folder, BEST.stem, monitor=MONITOR, save_on_train_epoch_end=True, enable_version_counter=False
    )
    # Not `save_last`, which keeps the last epoch that was an improvement.
    last = ModelCheckpoint(folder, LAST.stem, save_on_train_epoch_end=True, enable_version_counter=False)
    patience = EarlyStopping(MONITOR, patience=config.patience, check_on_train_epoch_end=True)
    return Trainer(
        **team.trainer(config.strategy, (WhisperEncoderLayer, WhisperDecoderLayer)),
        precision="bf16-mixed" if resolve_precision(config.precision, resolve_device()) == "bf16" else "32-true",
        max_epochs=config.epochs,
        accumulate_grad_batches=config.accumulate,
        gradient_clip_val=config.gradient_clip,
        callbacks=[*callbacks, patience, best, last],
        logger=watch.logger if team.leads else False,
        log_every_n_steps=_LOG_EVERY,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
