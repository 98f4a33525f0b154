"""Encoders with random weights, the same ones each time, by default of a few kilobytes."""

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


def write_wav2vec2(folder: Path, *, seed: int = 0, layers: int = 3) -> Path:
    """Save a wav2vec 2.0 of width 16 with its feature extractor, as transformers does; returns the folder."""
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = Wav2Vec2Config(
            hidden_size=16, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=32, conv_dim=[8] * 7,
            num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, vocab_size=8,
        )  # fmt: skip
        Wav2Vec2Model(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    return folder
