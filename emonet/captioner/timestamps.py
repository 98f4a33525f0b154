"""Timestamp tokens for captioners from scratch, so that whatever generates with Whisper generates with these, too.

A caption has no timestamps, so they are no part of the training; they would be three quarters of its vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import AddedToken
from transformers import WhisperForConditionalGeneration, WhisperTokenizer

from emonet.captioner.tokenizer import NO_TIMESTAMPS
from emonet.windows import Window

STEP = 0.02  # seconds between timestamps, as between states
FIRST_AT_MOST = 50  # steps at which the first timestamp stands at most, as Whisper's own configuration has it


@torch.no_grad()
def add_timestamps(model: WhisperForConditionalGeneration, tokenizer: WhisperTokenizer) -> None:
    """Give a captioner the timestamps of its window; one that has learnt some keeps them.

    Each weighs what `<|notimestamps|>` weighs: no caption says it, and a caption that is asked for with timestamps is
    the one that is written without, between the beginning and an open end.

    Args:
        model: trained; gets more tokens.
        tokenizer: of the model; gets the same.
    """
    none = tokenizer.get_vocab()[NO_TIMESTAMPS]
    steps = Window.of_frames(model.config.max_source_positions).frames
    missing = len(tokenizer) == none + 1
    if missing:
        names = [f"<|{STEP * step:.2f}|>" for step in range(steps + 1)]
        tokenizer.add_tokens([AddedToken(name, normalized=False, special=False) for name in names])
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    weights = model.get_input_embeddings().weight
    if missing or torch.equal(weights[none + 1], weights[-1]):  # given here or by an earlier training, not learnt
        weights[none + 1 :] = weights[none]
        model.generation_config.max_initial_timestamp_index = 0  # all are alike, and it shall be the beginning


def timestamp_settings(model: WhisperForConditionalGeneration) -> dict[str, Any]:
    """What a generation config says of timestamps: as the model has it, else what OpenAI's code takes by default."""
    layers, heads = model.config.decoder_layers, model.config.decoder_attention_heads
    upper_half = [[layer, head] for layer in range(layers // 2, layers) for head in range(heads)]
    defaults = {"max_initial_timestamp_index": FIRST_AT_MOST, "alignment_heads": upper_half}
    known = {name: getattr(model.generation_config, name, None) for name in defaults}
    return {name: default if known[name] is None else known[name] for name, default in defaults.items()}
