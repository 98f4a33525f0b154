"""DataModule of the captioner: its training and validation clips, as Lightning takes them."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from transformers import WhisperTokenizer

from datamodules.caption_batches import Batches, CaptionBatch, Recipe, has_caption
from datamodules.recordings import Recordings
from emonet.captioner import check_lengths
from emonet.clips import Clip, Corpus, Rejection, Split
from emonet.configs import CaptionerConfig
from emonet.errors import RequestError
from emonet.runtime import Progress, ignore
from emonet.windows import Window


class CaptionDataModule(LightningDataModule):  # type: ignore[misc]
    """Training and validation batches of a corpus; decodes its audio when it is made.

    Args:
        corpus: clips with captions or scores.
        config: batch size, accumulation, augmentation.
        window: that the model hears.
        tokenizer: of the model.
        limit: most label tokens, the model's `max_target_positions`.
        seed: fixes order, captions and augmentation.
        progress: told about the decoding.
        part: which process of how many takes its batches here.
        together: makes one list of what each process could not read, the same for all.

    Raises:
        RequestError: if no clip is left to train on, or to validate on, or captions have too many tokens.
    """

    def __init__(
        self,
        corpus: Corpus,
        config: CaptionerConfig,
        window: Window,
        tokenizer: WhisperTokenizer,
        limit: int,
        seed: int,
        progress: Progress = ignore,
        part: tuple[int, int] = (0, 1),
        together: Callable[[Sequence[str]], Collection[str]] = frozenset,
    ) -> None:
        super().__init__()
        usable = [clip for clip in (*corpus.of_split("train"), *corpus.of_split("validation")) if has_caption(clip)]
        self.uncaptioned = tuple(
            Rejection(clip.id, "neither caption nor scores")
            for clip in corpus.clips
            if clip.split != "test" and not has_caption(clip)
        )
        written = [clip for clip in usable if clip.caption is not None]
        check_lengths(
            tokenizer, [str(clip.caption) for clip in written], limit=limit, names=[clip.id for clip in written]
        )
        self.recordings = Recordings(usable, window, name=corpus.name, progress=progress)
        self.corpus, self._config, self._part = corpus, config, part
        self._recipe = Recipe(self.recordings, window, tokenizer, limit, corpus.targets, seed, config.batch_size)
        lost = together([rejection.id for rejection in self.recordings.unreadable])
        readable = [clip for clip in usable if clip.id not in lost]
        self.train_clips = self._of("train", readable)
        self.validation_clips = self._of("validation", readable)

    def _of(self, split: Split, clips: Sequence[Clip]) -> tuple[Clip, ...]:
        found = tuple(clip for clip in clips if clip.split == split)
        if not found:
            everything = len(self.corpus.of_split(split))
            raise RequestError(
                f"the corpus has no {split} clip that a captioner can use",
                where=self.corpus.name,
                expected="at least one readable clip with a caption or scores",
                found=f"{everything} {split} clips, {len(self.rejected)} rejected",
                hint=f"emonet corpus {shlex.quote(self.corpus.name)}",
            )
        return found

    @property
    def rejected(self) -> tuple[Rejection, ...]:
        """Clips that are left out, with their reasons."""
        return (*self.uncaptioned, *self.recordings.unreadable)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        return math.ceil(len(self.train_dataloader()) / self._config.accumulate)

    def train_dataloader(self) -> Batches:
        """Shuffled and augmented anew in each epoch of the attached trainer; goes on where that one does."""
        return Batches(
            self._recipe,
            self.train_clips,
            self._current_epoch,
            self._config.augment,
            self._config.accumulate,
            self._part,
            self._done,
        )

    def val_dataloader(self) -> Batches:
        """The validation clips, always in the same order with the same captions."""
        return Batches(self._recipe, self.validation_clips, part=self._part)

    def held_out(self, count: int) -> Batches:
        """At most `count` validation clips, spread evenly over all of them."""
        chosen = np.linspace(0, len(self.validation_clips) - 1, min(count, len(self.validation_clips))).round()
        return Batches(self._recipe, tuple(self.validation_clips[int(position)] for position in chosen))

    def transfer_batch_to_device(self, batch: CaptionBatch, device: torch.device, dataloader_idx: int) -> CaptionBatch:  # noqa: ARG002
        """Lightning's hook: it cannot move a frozen dataclass by itself."""
        return batch.to(device)

    def _done(self) -> int:
        """Batches of the epoch that a resumed run has behind it."""
        trainer: Any = self.trainer
        return int(trainer.fit_loop.epoch_loop.batch_progress.current.completed) if trainer is not None else 0

    def _current_epoch(self) -> int:
        trainer: Any = self.trainer
        return int(trainer.current_epoch) if trainer is not None else 0
