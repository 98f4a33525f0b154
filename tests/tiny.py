"""Whisper encoders with random weights, the same ones each time, by default of a few kilobytes."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

SHAPE = {"d_model": 32, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 64}


def random_encoder(*, seed: int = 0, **shape: object) -> WhisperEncoder:
    """By default with a window of 1 s: 50 states of width 32.

    Args:
        seed: of the weights; the global random state is left alone.
        shape: settings of `WhisperConfig` that differ.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return WhisperEncoder(WhisperConfig(**{**SHAPE, "max_source_positions": 50, **shape})).eval()


def write_encoder(folder: Path, *, seed: int = 0, **shape: object) -> Path:
    """Save `random_encoder` in a folder, as transformers does; returns the folder."""
    random_encoder(seed=seed, **shape).save_pretrained(folder)
    return folder
