"""Writing captions: what a captioner says about sounds, greedily."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from emonet.audio import LogMel, pad
from emonet.captioner.model import load_captioner, window_of


@torch.inference_mode()
def generated(
    model: WhisperForConditionalGeneration, processor: WhisperProcessor, waveforms: Float32[Tensor, "batch samples"]
) -> list[str]:
    """A caption for each clip of a batch.

    Args:
        model: on any device, in evaluation mode.
        processor: its tokenizer decodes.
        waveforms: 16 kHz, padded to the model's window.
    """
    mels = LogMel(model.config.num_mel_bins).to(model.device)(waveforms.to(model.device))
    everything = torch.ones(mels.shape[0], mels.shape[2], dtype=torch.long, device=mels.device)
    with _without_hints():
        tokens = model.generate(mels, attention_mask=everything, num_beams=1, do_sample=False)
    return [text.strip() for text in processor.batch_decode(tokens, skip_special_tokens=True)]


def caption_writer(
    source: str, device: torch.device
) -> Callable[[Sequence[Float32[np.ndarray, " _samples"]]], list[str]]:
    """What writes a caption for each sound (16 kHz mono); of a long one the captioner's window is heard.

    Args:
        source: a captioner's folder, or a hub id.
        device: where it computes.

    Raises:
        RequestError: if there is no captioner.
    """
    model, processor = load_captioner(source)
    model.to(device)
    window = window_of(model)
    return lambda sounds: generated(model, processor, pad(sounds, window))


@contextmanager
def _without_hints() -> Iterator[None]:
    """Generation advises against how transformers itself calls it; that is nothing a user can act on."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
