"""The loss of the experts: mean absolute error that a missing score leaves no trace in."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def absolute_errors(
    predictions: Float[Tensor, "batch experts"], scores: Float[Tensor, "batch experts"]
) -> tuple[Float[Tensor, " experts"], Float[Tensor, " experts"]]:
    """Sum of the absolute errors of each expert, and how many scores it is over; NaN scores are left out."""
    known = ~scores.isnan()
    # A missing score stands in as the prediction itself: the error is 0 and so is its gradient.
    errors = predictions - torch.where(known, scores, predictions.detach())
    return errors.abs().sum(0), known.sum(0).to(predictions.dtype)


def masked_mae(
    predictions: Float[Tensor, "batch experts"], scores: Float[Tensor, "batch experts"]
) -> Float[Tensor, " experts"]:
    """Mean absolute error of each expert over the scores that it has; 0 where it has none.

    The loss of a bank is the sum over its experts, so that each expert's gradient is that of its own mean, whatever
    the others are missing.
    """
    total, count = absolute_errors(predictions, scores)
    return total / count.clamp(min=1)
