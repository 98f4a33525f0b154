"""Losses of the experts, with masking: a missing score leaves no trace in any, and every expert has its own."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from emonet.configs import Loss


def expert_losses(
    predictions: Float[Tensor, "batch experts"],
    scores: Float[Tensor, "batch experts"],
    weights: Float[Tensor, "batch experts"],
    loss: Loss,
) -> Float[Tensor, " experts"]:
    """Loss of each expert over the scores that it has; 0 where it has none.

    A bank's loss is the sum over its experts, so that each expert's gradient is that of its own loss, whatever the
    others are missing.

    Args:
        predictions: of all experts.
        scores: NaN where nobody rated.
        weights: 0 or more; a score of weight 0 counts as missing.
        loss: mae, huber (quadratic up to an error of 1, then linear) or mse: the sum over the scores, each times its
            weight, over their number, so that a weight counts even where a score is the only one in the batch; or
            ccc, 1 minus Lin's concordance correlation of weighted moments. An expert with fewer than two scores in
            the batch, or whose predictions and scores both do not vary, has no concordance: its loss is 0, and so is
            its gradient.
    """
    weights = torch.where(scores.isnan(), 0, weights)
    if loss == "ccc":
        return _discordances(predictions, scores, weights)
    # A missing score stands in as the prediction itself: the error is 0 and so is its gradient.
    errors = predictions - torch.where(weights > 0, scores, predictions.detach())
    if loss == "mae":
        losses = errors.abs()
    elif loss == "mse":
        losses = errors.square()
    else:
        losses = torch.nn.functional.huber_loss(errors, torch.zeros_like(errors), reduction="none")
    return (losses * weights).sum(0) / (weights > 0).sum(0).clamp(min=1)


def absolute_errors(
    predictions: Float[Tensor, "batch experts"], scores: Float[Tensor, "batch experts"]
) -> tuple[Float[Tensor, " experts"], Float[Tensor, " experts"]]:
    """Sum of the absolute errors of each expert, and how many scores it is over; NaN scores are left out."""
    known = ~scores.isnan()
    errors = torch.where(known, predictions - scores, 0)
    return errors.abs().sum(0), known.sum(0).to(predictions.dtype)


def _discordances(
    predictions: Float[Tensor, "batch experts"],
    scores: Float[Tensor, "batch experts"],
    weights: Float[Tensor, "batch experts"],
) -> Float[Tensor, " experts"]:
    known = weights > 0
    predictions, scores = torch.where(known, predictions, 0), torch.where(known, scores, 0)
    total = weights.sum(0)
    shares = weights / torch.where(total > 0, total, 1)
    mean_predicted, mean_score = (shares * predictions).sum(0), (shares * scores).sum(0)
    around, about = predictions - mean_predicted, scores - mean_score
    covariance = (shares * around * about).sum(0)
    spread = (shares * (around.square() + about.square())).sum(0) + (mean_predicted - mean_score).square()
    # Ranges, not variances: those of equal numbers are not quite 0 once rounded.
    varied = _varies(predictions.detach(), known) | _varies(scores, known)
    defined = (known.sum(0) >= 2) & varied & (spread.detach() > 0)
    return torch.where(defined, 1 - 2 * covariance / torch.where(defined, spread, 1), 0)


def _varies(values: Tensor, known: Tensor) -> Tensor:
    return values.masked_fill(~known, -torch.inf).amax(0) > values.masked_fill(~known, torch.inf).amin(0)
