"""Attention on the processor, a few heads at a time, so that the scores between them stay in cache.

PyTorch's fused attention gains nothing from bfloat16 on a CPU without matrix units. Two products with a softmax between
them do, as long as the scores are still in cache for the next step: with Whisper's 1500 states, those of one head
(4.5 MB). Scores are rounded to bf16, as in transformers' own (eager) attention. With matrix units (Intel AMX) it is the
fused attention that wins: 9 ms against 16 ms a clip and layer of Whisper small.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import BFloat16
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from emonet.hardware import has_matrix_units

NAME = "emonet_per_head"  # in transformers' attention interface
SCORES = 1500 * 1500  # entries; one head over 30 s, in bf16 4.5 MB
SHORTEST = 128  # states; below it, a few small products cost more than one fused call


def per_head(
    query: BFloat16[Tensor, "batch heads states head_width"],
    key: BFloat16[Tensor, "batch heads states head_width"],
    value: BFloat16[Tensor, "batch heads states head_width"],
    scaling: float = 1.0,
) -> BFloat16[Tensor, "batch states heads head_width"]:
    """Softmax attention without a mask.

    Args:
        query: shape (batch, heads, states, head_width), on the CPU.
        key: the same.
        value: the same.
        scaling: of the scores.

    Returns:
        Shape (batch, states, heads, head_width), as transformers' attention functions give it.
    """
    batch, heads, states, head_width = query.shape
    scaled = query if scaling == 1.0 else query * scaling
    queries, keys, values = (tensor.flatten(0, 1) for tensor in (scaled, key, value))
    at_once = max(1, SCORES // states**2)
    # Written in place: with new memory for each product, page faults and cache misses cost another seventh.
    scores = queries.new_empty(min(at_once, len(queries)), states, states)
    heard = torch.empty_like(queries, memory_format=torch.contiguous_format)
    for first in range(0, len(queries), at_once):
        part = slice(first, first + at_once)
        weights = scores[: len(queries[part])]
        torch.bmm(queries[part], keys[part].transpose(1, 2), out=weights)
        torch.softmax(weights, -1, out=weights)
        torch.bmm(weights, values[part], out=heard[part])
    return heard.view(batch, heads, states, head_width).transpose(1, 2)


def applies(query: Tensor, attention_mask: Tensor | None, dropout: float) -> bool:
    """Whether `per_head` can take this call and is faster.

    That is in bf16 on a CPU without matrix units, nothing masked, no gradient, not short.
    """
    return (
        query.device.type == "cpu"
        and query.dtype == torch.bfloat16
        and query.shape[2] >= SHORTEST
        and attention_mask is None
        and dropout == 0.0
        and not torch.is_grad_enabled()
        and not has_matrix_units()
    )


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """What transformers calls: `per_head` where it wins, else PyTorch's fused attention.

    Args:
        module: the layer that calls.
        query: shape (batch, heads, states, head_width); `key` and `value` likewise.
        key: see `query`.
        value: see `query`.
        attention_mask: see `scaled_dot_product_attention`.
        dropout: share of the weights that are dropped.
        scaling: of the scores; by default 1 / sqrt(head_width).
        options: handed on.

    Returns:
        Shape (batch, states, heads, head_width), and no weights.
    """
    if key.shape == query.shape and not module.is_causal and applies(query, attention_mask, dropout):
        return per_head(query, key, value, query.shape[-1] ** -0.5 if scaling is None else scaling), None
    fused: tuple[Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
    )
    return fused


# Outside of what torch.compile sees: it would undo the writing in place.
AttentionInterface.register(NAME, torch.compiler.disable(attention))  # type: ignore[no-untyped-call]
