"""Training of a captioner at scale: two DDP processes against one, and against Hugging Face's `Seq2SeqTrainer`."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from transformers import (
    PrinterCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from benchmarks.extract import repeated
from benchmarks.gpu_setting import synthetic_corpus
from benchmarks.rows import Row
from benchmarks.surroundings import whisper_base
from datamodules.caption_batches import CaptionBatch
from datamodules.captioner import CaptionDataModule
from emonet.captioner import IGNORED, open_captioner, prompt_ids, window_of
from emonet.clips import Corpus
from emonet.configs import AugmentConfig, CaptionerConfig
from emonet.runtime import Progress, ignore, resolve_device, resolve_precision
from emonet.windows import SAMPLE_RATE, Window
from lightningmodules.captioner import CaptionerCallbacks, CaptionerModule, build_trainer, fit_captioner
from lightningmodules.guards import quiet
from lightningmodules.team import Team

BATCH = 8  # clips
WINDOW = 5.0  # seconds
WARM = 5  # steps that are not timed
TOLERANCE = 0.02  # of the loss after the last step, relative
DEVICES_REACH, TRAINER_REACH = 1.7, 1.3
_CAPTIONS = ("The speaker feels strong anger.", "A calm voice.", "One hears grief and relief.")
_PLAIN = AugmentConfig(frequency_masks=0, time_masks=0, shift_seconds=0)


def measure(out: Path, *, quick: bool) -> list[Row]:
    """All figures of this file.

    Args:
        out: folder for recordings and checkpoints.
        quick: a nano model and few steps, to see that everything runs; the figures say nothing.
    """
    return [*devices(out, quick=quick), *against_trainer(out, quick=quick)]


def devices(out: Path, *, quick: bool) -> list[Row]:
    """Clips per second of two processes on a core each, and of one on one core."""
    steps = 6 if quick else 60
    config = CaptionerConfig(
        model="scratch:nano" if quick else "scratch:tiny", window_seconds=2.0, batch_size=BATCH, epochs=1,
        learning_rate=1e-4, sample_captions=0, hit_clips=1,
    )  # fmt: skip
    corpus = _corpus(out, train=2 * steps * BATCH)
    threads = torch.get_num_threads()
    rates = {}
    for count in (2, 1):
        torch.set_num_threads(count)  # `fit_captioner` gives each of its processes the same share
        try:
            rates[count] = _rate(
                corpus, type(config).model_validate({**dict(config), "devices": count}), out / f"devices-{count}"
            )
        finally:
            torch.set_num_threads(threads)
    return [
        Row("captioner: one process on one core", rates[1], "clips/s"),
        Row("captioner: two processes (DDP) on two cores", rates[2], "clips/s", "one process on one core",
            rates[2] / rates[1], DEVICES_REACH),
    ]  # fmt: skip


def _rate(corpus: Corpus, config: CaptionerConfig, folder: Path) -> float:
    """Clips per second of the training's steps, the first ones apart."""
    seen = list[tuple[int, float]]()

    def count(completed: int, total: int, note: str = "") -> None:  # noqa: ARG001
        seen.append((completed, time.perf_counter()))

    def show(label: str, unit: str) -> AbstractContextManager[Progress]:  # noqa: ARG001
        return nullcontext(count if label == "training" else ignore)

    fit_captioner(corpus, config, seed=0, folder=folder, watch=CaptionerCallbacks(show, ignore), allow_copies=True)
    steps = seen[1:-1]  # not the beginning, nor the end of all
    (first, began), (last, ended) = steps[min(WARM, len(steps) // 2)], steps[-1]
    return (last - first) / (ended - began)


@dataclass(frozen=True)
class Course:
    """What a training of some steps gave.

    Args:
        seconds: of each step, the first ones apart.
        losses: of each step, before it.
    """

    seconds: list[float]
    losses: list[float]

    @property
    def rate(self) -> float:
        """Clips per second, of the median step: others may work on this machine, too."""
        return BATCH / sorted(self.seconds)[len(self.seconds) // 2]


def against_trainer(out: Path, *, quick: bool) -> list[Row]:
    """The same Whisper, batches and steps with our Trainer and with Hugging Face's."""
    steps = 4 if quick else 50
    base = None if quick else whisper_base()
    config = CaptionerConfig(
        model="scratch:nano" if base is None else str(base), window_seconds=WINDOW, batch_size=BATCH,
        epochs=1, learning_rate=1e-5, weight_decay=0.0, warmup=0.0, schedule="constant", augment=_PLAIN,
    )  # fmt: skip
    name = "nano" if base is None else "base"
    corpus = _corpus(out, train=steps * BATCH)
    courses = {}
    for precision in dict.fromkeys((resolve_precision("auto", resolve_device()), "float32")):
        chosen = type(config).model_validate({**dict(config), "precision": precision})
        ours = [_ours(chosen, corpus, out, steps)]
        peer = _theirs(chosen, corpus, out, steps)
        ours.append(_ours(chosen, corpus, out, steps))  # before and after: others may work on this machine, too
        courses[precision] = Course([second for one in ours for second in one.seconds], ours[0].losses), peer
    (default, _), (mine, peer) = next(iter(courses.values())), courses["float32"]
    rows = [_row(name, *both, f"Seq2SeqTrainer, {precision} both") for precision, both in courses.items()]
    rows.append(_row(name, default, peer, "Seq2SeqTrainer, both as they come (float32 the peer)"))
    apart = abs(mine.losses[-1] - peer.losses[-1]) / peer.losses[-1]
    rows.append(
        Row(f"captioner, Whisper {name}: loss at step {steps}, float32", mine.losses[-1], "nats/token",
            f"{peer.losses[-1]:.4f} of Seq2SeqTrainer; more than {TOLERANCE:.0%} apart is short",
            TOLERANCE / max(apart, 1e-6), 1.0)
    )  # fmt: skip
    return rows


def _row(name: str, mine: Course, peer: Course, said: str) -> Row:
    return Row(
        f"captioner, Whisper {name}, {WINDOW:g} s, {BATCH} clips a step",
        mine.rate,
        "clips/s",
        said,
        mine.rate / peer.rate,
        TRAINER_REACH,
    )


def _corpus(out: Path, *, train: int) -> Corpus:
    """So many training clips, and a few to validate on."""
    corpus = synthetic_corpus(out / "audio")
    split = {name: [clip for clip in corpus.clips if clip.split == name] for name in ("train", "validation")}
    clips = (*repeated(replace(corpus, clips=tuple(split["train"])), train).clips, *split["validation"][:BATCH])
    said = (replace(clip, caption=_CAPTIONS[row % len(_CAPTIONS)]) for row, clip in enumerate(clips))
    return replace(corpus, clips=tuple(said))


def _data(corpus: Corpus, config: CaptionerConfig) -> tuple[WhisperForConditionalGeneration, Any, CaptionDataModule]:
    model, processor = open_captioner(config, lambda: ["The speaker feels strong anger."] * 2, 0)
    limit = model.config.max_target_positions
    return model, processor, CaptionDataModule(corpus, config, window_of(model), processor.tokenizer, limit, 0)


class _Clock(Callback):  # type: ignore[misc]
    """Seconds and loss of each of our steps."""

    def __init__(self) -> None:
        self.course = Course([], [])
        self._last = 0.0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *details: Any) -> None:  # noqa: ARG002
        """Note them."""
        now = time.perf_counter()
        self.course.losses.append(float(trainer.callback_metrics["train_loss"]))
        if trainer.global_step > WARM or trainer.num_training_batches <= WARM:
            self.course.seconds.append(now - self._last)
        self._last = now


def _ours(config: CaptionerConfig, corpus: Corpus, out: Path, steps: int) -> Course:
    model, processor, data = _data(corpus, config)
    prompt = len(prompt_ids(processor.tokenizer)) - 1
    module = CaptionerModule(model, config, steps_per_epoch=steps, prompt_tokens=prompt, seed=0)
    clock = _Clock()
    watch = CaptionerCallbacks(lambda *_: nullcontext(ignore), ignore)
    with quiet():
        trainer = build_trainer(config, out / "ours", watch, [clock], Team())
        trainer.callbacks = [clock]
        trainer.limit_val_batches = 0
        trainer.fit(module, datamodule=data)
    return clock.course


class _TheirClock(TrainerCallback):  # type: ignore[misc]
    """Seconds of each of the peer's steps; its own log has the losses."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        now = time.perf_counter()
        if state.global_step > min(WARM, state.max_steps - 2):
            self.seconds.append(now - self._last)
        self._last = now


class _InOrder(Seq2SeqTrainer):  # type: ignore[misc]
    """The peer with our order of clips."""

    def _get_train_sampler(self, *_: Any) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset)


def _theirs(config: CaptionerConfig, corpus: Corpus, out: Path, steps: int) -> Course:
    """Log-mels are ready beforehand, as its recipes have it; labels are padded to the longest of a batch."""
    model, processor, data = _data(corpus, config)
    examples = _examples(processor.feature_extractor, window_of(model), data.train_dataloader())
    settings = Seq2SeqTrainingArguments(
        output_dir=str(out / "theirs"), per_device_train_batch_size=BATCH, max_steps=steps,
        learning_rate=config.learning_rate, lr_scheduler_type="constant", weight_decay=0.0, adam_beta2=0.98,
        max_grad_norm=config.gradient_clip, bf16=config.precision == "bf16", logging_steps=1, save_strategy="no",
        report_to=[], disable_tqdm=True, seed=0, use_cpu=resolve_device().type == "cpu", log_level="error",
    )  # fmt: skip
    clock = _TheirClock()
    trainer = _InOrder(
        model=copy.deepcopy(model), args=settings, train_dataset=examples, data_collator=_collated, callbacks=[clock]
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return Course(clock.seconds, losses)


def _examples(
    extractor: WhisperFeatureExtractor, window: Window, batches: Iterable[CaptionBatch]
) -> list[dict[str, Any]]:
    """Our clips in our order, as the peer wants them."""
    found = list[dict[str, Any]]()
    for batch in batches:
        for waveform, labels in zip(batch.waveforms.numpy(), batch.tokens.labels, strict=True):
            heard = extractor(
                waveform, sampling_rate=SAMPLE_RATE, padding=False, truncation=False, return_tensors="pt"
            ).input_features[0]
            found.append({"input_features": heard[:, : window.mel_frames], "labels": labels[labels != IGNORED]})
    return found


def _collated(examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    labels = [one["labels"] for one in examples]
    return {
        "input_features": torch.stack([one["input_features"] for one in examples]),
        "labels": torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORED),
    }
