"""Attentive statistics pooling: each query's weighted mean and deviation over the frames of a clip."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from emonet.experts.inputs import VARIANCE_FLOOR, heard

TOGETHER = 8  # clips of similar length that are padded to one: less padding, and activations that stay in the cache


def attentive_views(
    states: Float[Tensor, "batch frames width"],
    lengths: Int[Tensor, " batch"],
    query: Float[Tensor, "experts queries width"],
) -> Float[Tensor, "experts batch features"]:
    """Each query's weighted mean and deviation over the frames that count, by expert.

    States are centred on each clip's own mean first: the deviation is then free of cancellation, and a softmax does
    not change with a constant. There is a gradient towards the queries, none towards the states.
    """
    experts, queries, width = query.shape
    views: Tensor = _Views.apply(query.reshape(experts * queries, width), states, lengths)  # type: ignore[no-untyped-call]
    return views.view(len(states), experts, queries * 2 * width).transpose(0, 1)


class _Views(torch.autograd.Function):
    """Mean and deviation of each view, `batch views 2*width`; half the time of what autograd would do."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, states: Tensor, lengths: Tensor) -> Tensor:
        order = lengths.argsort()
        found, ctx.kept, ctx.order = [], [], order
        for clips in torch.split(order, TOGETHER):
            centred, mask, centre = _centred(states[clips], lengths[clips])
            weights = (centred @ query.T).masked_fill_(~mask, -torch.inf).softmax(1)
            moments = torch.cat((centred, centred.square()), 2)
            pooled = weights.transpose(1, 2) @ moments
            mean, square = pooled.tensor_split(2, 2)
            variance = square.addcmul(mean, mean, value=-1)
            varies = variance > 0
            deviation = variance.clamp_(min=0).add_(VARIANCE_FLOOR).sqrt_()
            found.append(torch.cat((mean + centre, deviation), 2))
            if ctx.needs_input_grad[0]:
                ctx.kept.append((moments, weights, pooled, deviation, varies))
        return torch.cat(found)[order.argsort()]

    @staticmethod
    @once_differentiable  # type: ignore[misc]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        total = gradient.new_zeros(gradient.shape[1], gradient.shape[2] // 2)
        for clips, kept in zip(torch.split(ctx.order, TOGETHER), ctx.kept, strict=True):
            moments, weights, pooled, deviation, varies = kept
            towards = gradient[clips]  # a copy: from here on the gradient of the mean and of the mean square
            mean, square = towards.tensor_split(2, 2)
            square.div_(deviation).mul_(varies).mul_(0.5)
            mean.addcmul_(pooled.tensor_split(2, 2)[0], square, value=-2)
            level = (towards * pooled).sum(2).unsqueeze(1)
            logits = (moments @ towards.transpose(1, 2)).sub_(level).mul_(weights)
            total.add_((logits.transpose(1, 2) @ moments.tensor_split(2, 2)[0]).sum(0))
        return total, None, None


def _centred(states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """States less each clip's mean, 0 where a frame does not count; which do; and the means."""
    longest = int(lengths.max())
    mask = heard(lengths, longest).unsqueeze(2)
    given = states[:, :longest].float()
    centre = given.masked_fill(~mask, 0).sum(1, keepdim=True) / lengths.view(-1, 1, 1)
    return (given - centre).masked_fill_(~mask, 0), mask, centre
