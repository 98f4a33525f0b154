"""Clips to caption batches: audio padded to the window, a fresh caption per epoch, Whisper's labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor
from transformers import WhisperTokenizer

from datamodules.recordings import Recordings
from emonet.audio import augment_waveform, pad
from emonet.captioner import IGNORED, CaptionTokens, encode, write_caption
from emonet.clips import Clip, Corpus
from emonet.configs import AugmentConfig
from emonet.errors import EmonetError
from emonet.runtime import generator, prefetched
from emonet.targets import TargetSpec
from emonet.windows import Window

HELD_OUT = -1  # the "epoch" of captions that do not change from epoch to epoch
_VOCABULARY_EPOCHS = 8  # each clip is captioned this often for the tokenizer to learn from
_VOCABULARY_CAPTIONS = 20_000  # but less than twice this altogether


def has_caption(clip: Clip) -> bool:
    """Whether the clip has a caption of its own, or scores to write one from."""
    return clip.caption is not None or any(not np.isnan(score) for score in clip.scores.values())


def caption_of(clip: Clip, spec: TargetSpec, seed: int, epoch: int) -> str:
    """The clip's own caption, or one written from its scores, anew in each epoch."""
    if clip.caption is not None:
        return clip.caption
    return write_caption(clip.scores, spec, generator(seed, "caption", epoch, clip.id))


def vocabulary_captions(corpus: Corpus, seed: int) -> list[str]:
    """What a scratch captioner's tokenizer learns from: several captions of each training clip, or of some of them."""
    clips = [clip for clip in corpus.of_split("train") if has_caption(clip)]
    total = _VOCABULARY_EPOCHS * len(clips)
    every = max(1, total // _VOCABULARY_CAPTIONS)
    chosen = (divmod(position, len(clips)) for position in range(0, total, every))
    return [caption_of(clips[row], corpus.targets, seed, epoch) for epoch, row in chosen]


@dataclass(frozen=True)
class CaptionBatch:
    """Some clips as the captioner takes them.

    Args:
        clips: which they are.
        waveforms: 16 kHz audio, zero-padded to the window.
        tokens: what the decoder reads and what it has to say.
        step_tokens: labels in all batches of this process whose gradients make up one step; the loss is divided by it,
            and by that of the other processes (count).
        number: of the batch in its epoch, over all processes, from 0; fixes dropout and masks.
    """

    clips: tuple[Clip, ...]
    waveforms: Float32[Tensor, "batch samples"]
    tokens: CaptionTokens
    step_tokens: int
    number: int = 0

    def emptied(self) -> CaptionBatch:
        """The same sound of no clip, with nothing to say: a loss of 0 with gradients of 0."""
        tokens = replace(
            self.tokens, mask=torch.zeros_like(self.tokens.mask), labels=torch.full_like(self.tokens.labels, IGNORED)
        )
        return replace(self, clips=(), tokens=tokens, step_tokens=0)

    def to(self, device: torch.device) -> CaptionBatch:
        """The same batch on another device."""
        tokens = CaptionTokens(
            *(part.to(device) for part in (self.tokens.inputs, self.tokens.mask, self.tokens.labels))
        )
        return replace(self, waveforms=self.waveforms.to(device, non_blocking=True), tokens=tokens)


@dataclass(frozen=True)
class Recipe:
    """How clips become batches.

    Args:
        recordings: the audio.
        window: that the model hears.
        tokenizer: of the model.
        limit: most label tokens.
        spec: what the scores mean.
        seed: of the run.
        batch_size: clips in a batch.
    """

    recordings: Recordings
    window: Window
    tokenizer: WhisperTokenizer
    limit: int
    spec: TargetSpec
    seed: int
    batch_size: int

    def batch(self, clips: Sequence[Clip], epoch: int, augment: AugmentConfig | None) -> CaptionBatch:
        """One batch; clips that turn out to be unreadable are missing from it.

        Raises:
            RequestError: if a caption has too many tokens.
            EmonetError: if none of the clips can be read.
        """
        heard = [
            (clip, audio) for clip, audio in zip(clips, self.recordings.read(clips), strict=True) if audio is not None
        ]
        if not heard:
            raise EmonetError(
                "not one clip of a batch can be read", where=clips[0].id, hint="is the disk with the audio still there?"
            )
        kept = tuple(clip for clip, _ in heard)
        waveforms = [
            audio
            if augment is None
            else augment_waveform(audio, augment, generator(self.seed, "augment", epoch, clip.id))
            for clip, audio in heard
        ]
        captions = [caption_of(clip, self.spec, self.seed, epoch) for clip in kept]
        tokens = encode(self.tokenizer, captions, limit=self.limit, names=[clip.id for clip in kept])
        return CaptionBatch(kept, pad(waveforms, self.window), tokens, tokens.count)


@dataclass(frozen=True)
class Batches:
    """An epoch of batches, iterated over by Lightning.

    Of several processes each makes its own, as many as the others: where batches run out, empty ones fill up, so that
    each clip comes once and nobody waits for ever.

    Args:
        recipe: makes them.
        clips: all clips of an epoch.
        epoch: asked for the current epoch with the first batch, or None: same order and captions every time.
        augment: augmentation of the audio, or None.
        accumulate: batches of one process whose gradients make up one step.
        part: which process of how many this is.
        position: asked, with the first batch, for how many of this process' batches are done with already.
    """

    recipe: Recipe
    clips: tuple[Clip, ...]
    epoch: Callable[[], int] | None = None
    augment: AugmentConfig | None = None
    accumulate: int = 1
    part: tuple[int, int] = (0, 1)
    position: Callable[[], int] | None = None

    def __len__(self) -> int:
        steps, rest = divmod(math.ceil(len(self.clips) / self.recipe.batch_size), self.accumulate * self.part[1])
        return steps * self.accumulate + math.ceil(rest / self.part[1])

    def __iter__(self) -> Iterator[CaptionBatch]:
        if self.recipe.recordings.in_memory:
            return self._batches()  # made in a millisecond: a thread would only compete with the model
        return prefetched(self._batches)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: `position` tells where to go on; Lightning warns of loaders that do not say that they can."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing, too."""

    def _batches(self) -> Iterator[CaptionBatch]:
        # Asked for with the first batch: when Lightning makes the iterator, a resumed run still has the epoch before.
        epoch = HELD_OUT if self.epoch is None else self.epoch()
        done = 0 if self.position is None else self.position()
        clips, size = self._ordered(epoch), self.recipe.batch_size
        plans = [clips[first : first + size] for first in range(0, len(clips), size)]
        whole = self.accumulate * self.part[1]  # batches of a step, over all processes
        for first in range(done // self.accumulate * whole, len(plans), whole):
            yield from self._step(plans[first : first + whole], first, epoch)

    def _step(self, plans: list[list[Clip]], first: int, epoch: int) -> list[CaptionBatch]:
        """This process' batches of a step, which is made of `plans` over all processes, numbered from `first` on."""
        rank, of = self.part
        step = list[CaptionBatch]()
        for number in range(rank, math.ceil(len(plans) / of) * of, of):
            plan = plans[number] if number < len(plans) else None
            batch = self.recipe.batch(plan or plans[0][:1], epoch, self.augment)
            step.append(replace(batch if plan else batch.emptied(), number=first + number))
        total = sum(batch.tokens.count for batch in step)
        return [replace(batch, step_tokens=total) for batch in step]

    def _ordered(self, epoch: int) -> list[Clip]:
        if self.epoch is None:
            return list(self.clips)
        order = generator(self.recipe.seed, "order", epoch).permutation(len(self.clips))
        return [self.clips[position] for position in order]
