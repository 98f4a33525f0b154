"""Attention on the processor, a few heads at a time, so that the scores between them stay in cache.

PyTorch's fused attention gains nothing from bfloat16 on a CPU without matrix units. Two products with a softmax between
them do, as long as the scores are still in cache for the next step: with Whisper's 1500 states, those of one head
(4.5 MB). Scores are rounded to bf16, as in transformers' own (eager) attention. With matrix units (Intel AMX) it is the
fused attention that wins: 9 ms against 16 ms a clip and layer of Whisper small.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from emonet.runtime import has_matrix_units

SCORES = 1500 * 1500  # entries; one head over 30 s, in bf16 4.5 MB
SHORTEST = 128  # states; below it, a few small products cost more than one fused call


def per_head(
    query: Float[Tensor, "batch heads states head_width"],
    key: Float[Tensor, "batch heads states head_width"],
    value: Float[Tensor, "batch heads states head_width"],
) -> Float[Tensor, "batch states heads head_width"]:
    """Softmax attention without a mask.

    Args:
        query: shape (batch, heads, states, head_width), on the CPU, scaled.
        key: the same.
        value: the same.

    Returns:
        Shape (batch, states, heads, head_width).
    """
    batch, heads, states, head_width = query.shape
    queries, keys, values = (tensor.flatten(0, 1) for tensor in (query, key, value))
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


def applies(query: Tensor) -> bool:
    """Whether `per_head` can take a query and is faster.

    That is in bf16 on a CPU without matrix units, no gradient, not short.
    """
    return (
        query.device.type == "cpu"
        and query.dtype == torch.bfloat16
        and query.shape[2] >= SHORTEST
        and not torch.is_grad_enabled()
        and not has_matrix_units()
    )


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention without a mask: `per_head` where it wins, else PyTorch's fused attention.

    Args:
        query: shape (batch, heads, states, head_width), scaled.
        key: the same.
        value: the same.

    Returns:
        Shape (batch, states, heads, head_width).
    """
    if applies(query):
        return per_head(query, key, value)
    return scaled_dot_product_attention(query, key, value, scale=1.0).transpose(1, 2)
