"""Freezing and weight decay: which of a captioner's weights are trained, and which of those decay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from torch import nn
from transformers import WhisperForConditionalGeneration

from emonet.errors import RequestError


def freeze(model: WhisperForConditionalGeneration, parts: Iterable[str], *, encoder_layers: int = 0) -> None:
    """Keep the weights of some parts as they are.

    Args:
        model: the captioner.
        parts: encoder_conv, encoder (its convolutions too), decoder (all but its embeddings), embeddings.
        encoder_layers: the encoder's first so many layers and its convolutions, too (count).

    Raises:
        RequestError: if nothing would be left to train, or the encoder has fewer layers.
    """
    encoder, decoder = model.model.encoder, model.model.decoder
    members: dict[str, tuple[nn.Module, ...]] = {
        "encoder_conv": (encoder.conv1, encoder.conv2),
        "encoder": (encoder,),
        "decoder": (decoder.layers, decoder.layer_norm),
        "embeddings": (decoder.embed_tokens, decoder.embed_positions),  # proj_out shares embed_tokens' weights
    }
    parts = tuple(parts)
    for part in parts:
        for module in members[part]:
            module.requires_grad_(False)
    if encoder_layers > len(encoder.layers):
        raise RequestError(
            "the encoder has fewer layers than are to be frozen",
            expected=f"--captioner.frozen-layers 0 to {len(encoder.layers)}",
            found=encoder_layers,
        )
    if encoder_layers:
        for module in (encoder.conv1, encoder.conv2, *encoder.layers[:encoder_layers]):
            module.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise RequestError("every part of the captioner is frozen", found=", ".join(parts), hint="freeze fewer parts")


def parameter_groups(
    model: WhisperForConditionalGeneration, *, learning_rate: float, encoder_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Trainable parameters for AdamW; matrices decay, norms, biases and embeddings do not; the encoder has its rate.

    Args:
        model: the captioner.
        learning_rate: of all but the encoder.
        encoder_rate: the encoder's, as a share of `learning_rate` (discriminative fine-tuning, arXiv 1801.06146).
        weight_decay: of the matrices.
    """
    embeddings = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    encoder = {id(p) for p in model.model.encoder.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for parameter in model.parameters():
        if parameter.requires_grad:
            rate = learning_rate * (encoder_rate if id(parameter) in encoder else 1.0)
            decays = parameter.ndim >= 2 and id(parameter) not in embeddings
            groups[rate, weight_decay if decays else 0.0].append(parameter)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]
