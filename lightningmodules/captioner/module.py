"""LightningModule of the captioner: log-mels, loss over tokens, optimiser, validation figures."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from lightning import LightningModule
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn import functional as F  # noqa: N812
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy
from transformers import WhisperForConditionalGeneration

from datamodules.caption_batches import CaptionBatch
from emonet.audio import LogMel, SpecAugment
from emonet.captioner import IGNORED, freeze, parameter_groups
from emonet.configs import CaptionerConfig
from emonet.runtime import seed_of

MONITOR = "val_loss"  # smaller is better: checkpoint and early stopping both follow it


class CaptionerModule(LightningModule):  # type: ignore[misc]
    """Fine-tunes a Whisper to write captions.

    Args:
        model: the captioner.
        config: optimiser, schedule, augmentation, frozen parts.
        steps_per_epoch: optimiser steps in an epoch (count).
        prompt_tokens: label tokens that are given, not said: language, task, no timestamps (count).
        seed: fixes dropout and masks.
    """

    def __init__(
        self,
        model: WhisperForConditionalGeneration,
        config: CaptionerConfig,
        *,
        steps_per_epoch: int,
        prompt_tokens: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.log_mel = LogMel(model.config.num_mel_bins)
        self.spec_augment = SpecAugment(config.augment)
        self._steps_per_epoch, self._prompt_tokens, self._seed = steps_per_epoch, prompt_tokens, seed
        self._step_tokens: Any = None  # of all of them, where there are several
        # NaN stays NaN, and tells of a training that diverged; the strategy "disable" would forget the weights.
        self.loss_per_token = MeanMetric(nan_strategy=math.nan).set_dtype(torch.float64)
        self.token_accuracy = MulticlassAccuracy(
            model.config.vocab_size, average="micro", ignore_index=IGNORED, validate_args=False
        )
        parts = config.freeze if config.encoder_rate else ("encoder", *config.freeze)
        freeze(model, parts, encoder_layers=config.frozen_layers)
        # Before a strategy flattens them: their dimensions tell which decay.
        self._groups = parameter_groups(
            model,
            learning_rate=config.learning_rate,
            encoder_rate=config.encoder_rate,
            weight_decay=config.weight_decay,
        )
        for layer in model.modules():
            if isinstance(layer, nn.LayerNorm):
                layer.register_forward_hook(_cast_once)
        model.train()
        if config.gradient_checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})

    def forward(
        self, mels: Float[Tensor, "batch mels mel_frames"], inputs: Tensor
    ) -> Float[Tensor, "batch tokens vocabulary"]:
        """Logits of the next token after each of `inputs`; padding is on the right, where the causal mask hides it."""
        output: Tensor = self.model(input_features=mels, decoder_input_ids=inputs, use_cache=False).logits
        return output

    def on_train_epoch_start(self) -> None:
        """Validation and generated captions have switched dropout off."""
        self.model.train()

    def on_train_batch_start(self, batch: CaptionBatch, batch_idx: int) -> None:
        """Count the labels of a step that begins, over all processes."""
        if self._world > 1 and batch_idx % self.config.accumulate == 0:
            mine = torch.tensor(batch.step_tokens, device=self.device)
            self._step_tokens = self.trainer.strategy.reduce(mine, reduce_op="sum")

    def training_step(self, batch: CaptionBatch, batch_idx: int) -> Float[Tensor, ""]:  # noqa: ARG002
        """The batch's share of the step's mean loss per token."""
        # Each batch has its own seeds, so that a resumed run, or another number of processes, draws the same.
        torch.manual_seed(seed_of(self._seed, "dropout", self.current_epoch, batch.number))
        mels = self.spec_augment(
            self.log_mel(batch.waveforms), seed_of(self._seed, "masks", self.current_epoch, batch.number)
        )
        total = self._loss(self(mels, batch.tokens.inputs), batch)
        self.log("train_loss", total.detach() / max(1, batch.tokens.count), batch_size=max(1, len(batch.clips)))
        # Lightning divides by the number of accumulated batches, and by that of processes; the mean over the step's
        # tokens is what is wanted.
        tokens = self._step_tokens if self._world > 1 else batch.step_tokens
        return total / tokens * (self.config.accumulate * self._world)

    @property
    def _world(self) -> int:
        """Processes that train; one where steps are taken without a trainer (count)."""
        return 1 if self._trainer is None else int(self._trainer.world_size)

    def _loss(self, logits: Float[Tensor, "batch tokens vocabulary"], batch: CaptionBatch) -> Float[Tensor, ""]:
        exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return F.cross_entropy(
            exact.flatten(0, 1), batch.tokens.labels.flatten(), ignore_index=IGNORED, reduction="sum"
        )

    def validation_step(self, batch: CaptionBatch, batch_idx: int) -> None:  # noqa: ARG002
        """Take in loss and tokens; batches differ in tokens, so means are taken at the end."""
        logits = self(self.log_mel(batch.waveforms), batch.tokens.inputs)
        tokens = batch.tokens.mask.sum()
        self.loss_per_token.update(self._loss(logits, batch).double() / tokens.clamp(min=1), tokens)
        labels = batch.tokens.labels.clone()
        labels[:, : self._prompt_tokens] = IGNORED  # these are given when a caption is generated
        self.token_accuracy.update(logits.argmax(-1), labels)

    def on_validation_epoch_end(self) -> None:
        """Loss per token over the whole set, and the share of the captions' own tokens that are right."""
        self.log_dict({MONITOR: self.loss_per_token, "token_accuracy": self.token_accuracy})

    def configure_optimizers(self) -> Any:
        """AdamW with warm-up and the chosen schedule, step by step."""
        optimizer = torch.optim.AdamW(self._groups, betas=(0.9, 0.98), fused=True)
        # A lambda stays out of checkpoints; of a bound method they would hold the attributes.
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self._rate(step))  # noqa: PLW0108
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,  # noqa: ARG002
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,  # noqa: ARG002
    ) -> None:
        """Clip here: Lightning refuses to with a fused optimiser, for the sake of float16, which is not used."""
        if gradient_clip_val is None:
            return
        whole = self._trainer.model if self._trainer is not None else None
        if isinstance(whole, FullyShardedDataParallel):  # no process has all of the gradient
            whole.clip_grad_norm_(gradient_clip_val)
        else:
            torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def _rate(self, step: int) -> float:
        """Share of the peak learning rate at an optimiser step, 0 to 1."""
        total = self._steps_per_epoch * self.config.epochs
        warmup = max(1, round(self.config.warmup * total))
        if step < warmup:
            return (step + 1) / warmup
        left = max(0.0, (total - step) / max(1, total - warmup))
        return {"constant": 1.0, "linear": left, "cosine": 0.5 - 0.5 * math.cos(math.pi * left)}[self.config.schedule]


def _cast_once(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:  # noqa: ARG001
    """What a norm hands on, in the arithmetic of the matrix products that alone take it.

    Autocast would do it for each of them (queries, keys, values; the encoder's states in every layer of the decoder),
    and as often again on the way back.
    """
    device = output.device.type
    return output.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else output
