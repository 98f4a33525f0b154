"""Which of a captioner's weights are trained, and which of those decay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn
from transformers import WhisperForConditionalGeneration

from emonet.errors import RequestError


def freeze(model: WhisperForConditionalGeneration, parts: Iterable[str]) -> None:
    """Keep the weights of some parts as they are.

    Args:
        model: the captioner.
        parts: encoder_conv, encoder (its convolutions too), decoder (all but its embeddings), embeddings.

    Raises:
        RequestError: if nothing would be left to train.
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
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise RequestError("every part of the captioner is frozen", found=", ".join(parts), hint="freeze fewer parts")


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters for AdamW: matrices decay; norms, biases and embeddings do not."""
    embeddings = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    trainable = [p for p in model.parameters() if p.requires_grad]
    decaying = [p for p in trainable if p.ndim >= 2 and id(p) not in embeddings]
    chosen = {id(p) for p in decaying}
    steady = [p for p in trainable if id(p) not in chosen]
    return [
        {"params": params, "weight_decay": decay}
        for params, decay in ((decaying, weight_decay), (steady, 0.0))
        if params
    ]
