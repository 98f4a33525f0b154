"""Validation metrics as torchmetrics objects: MAE, Pearson, CCC and RMSE by target, and UA over classes.

They are taken in batch by batch, and over all processes of a training on several devices. The conventions are those of
`emonet.evaluation`: a missing score is left out; predictions that are all the same order nothing, so that their
correlations are 0; where the scores are all the same, correlations are undefined (NaN).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast, final, get_args

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassStatScores
from torchmetrics.utilities.data import dim_zero_cat

from emonet.targets import NO_CLASS, Classes, TargetSpec
from emonet.training.losses import absolute_errors

ScoreMetricName = Literal["mae", "pearson", "ccc", "rmse"]
SCORE_METRICS: tuple[ScoreMetricName, ...] = get_args(ScoreMetricName)


@final
class ScoreMetrics(Metric):
    """MAE, Pearson, CCC and RMSE of each target.

    A batch is kept as its moments, in float64 around its own means, and they are merged when figures are asked for:
    a small spread far from 0 loses nothing. Sums of errors stay as exact as the predictions are.
    """

    full_state_update = False
    errors: list[Float[Tensor, "1 targets"]]
    moments: list[Float64[Tensor, "1 moments targets"]]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("errors", [], dist_reduce_fx="cat")
        self.add_state("moments", [], dist_reduce_fx="cat")

    def update(self, predictions: Float[Tensor, "batch targets"], scores: Float[Tensor, "batch targets"]) -> None:
        """Take in a batch.

        Args:
            predictions: of the scores.
            scores: NaN where nobody rated.
        """
        self.errors.append(absolute_errors(predictions, scores)[0][None])
        self.moments.append(_moments(predictions, scores)[None])

    def compute(self) -> Float64[Tensor, "4 targets"]:
        """A row for each of `SCORE_METRICS`; NaN where undefined."""
        errors, moments = dim_zero_cat(self.errors).sum(0), dim_zero_cat(self.moments)  # tensors by now, or lists
        counts, means, spreads = moments[:, :1], moments[:, 1:3], moments[:, 3:6]
        total = counts.sum(0)
        mean = (counts * means).sum(0) / total
        apart = means - mean
        between = torch.cat([apart.square(), apart[:, :1] * apart[:, 1:]], 1)  # a GPU would compile `prod` first
        xx, yy, xy = (spreads + counts * torch.where(counts > 0, between, 0)).sum(0) / total
        x_alike, y_alike = moments[:, 6:8].amin(0) == moments[:, 8:].amax(0)  # exactly
        pearson = (xy / (xx * yy).sqrt()).clamp(-1, 1)
        ccc = (2 * xy / (xx + yy + (mean[0] - mean[1]).square())).clamp(-1, 1)
        unordered = x_alike | (xx * yy == 0)  # also where they differ by less than arithmetic resolves
        ordered = torch.stack([pearson, ccc]).where(~unordered, 0).where(~y_alike, torch.nan)
        rmse = (xx + yy - 2 * xy + (mean[0] - mean[1]).square()).clamp(min=0).sqrt()
        return torch.cat([(errors / total[0].to(errors.dtype))[None].double(), ordered, rmse[None]])

    def by_target(self) -> Mapping[ScoreMetricName, list[float]]:
        """Each metric's figures in the order of the targets."""
        return dict(zip(SCORE_METRICS, cast("list[list[float]]", self.compute().tolist()), strict=True))


def _moments(
    predictions: Float[Tensor, "batch targets"], scores: Float[Tensor, "batch targets"]
) -> Float64[Tensor, "moments targets"]:
    """How many are rated; of predictions and scores, the means, sums of squares and of products around these, ends."""
    known = ~scores.isnan()
    both = torch.stack([predictions, scores]).double().where(known, 0)
    count = known.sum(0)
    means = both.sum(1) / count.clamp(min=1)
    apart = (both - means[:, None]).where(known, 0)
    least, most = both.where(known, torch.inf).amin(1), both.where(known, -torch.inf).amax(1)
    return torch.cat([count[None], means, apart.square().sum(1), (apart[0] * apart[1]).sum(0)[None], least, most])


@final
class UnweightedAccuracy(MulticlassStatScores):
    """UA, the mean recall over the classes that occur; the class is that whose expert is highest on its own scale.

    Args:
        classes: those that are told apart; each has a target in `spec`.
        spec: targets of the predictions, in the order of the columns.
    """

    _low: Float[Tensor, " classes"]
    _span: Float[Tensor, " classes"]

    def __init__(self, classes: Classes, spec: TargetSpec) -> None:
        super().__init__(len(classes.names), average=None, ignore_index=NO_CLASS, validate_args=False)
        self._columns = [spec.index(target) for target in classes.names]
        low, high = (torch.from_numpy(ends[self._columns]) for ends in (spec.low, spec.high))
        self.register_buffer("_low", low, persistent=False)
        self.register_buffer("_span", high - low, persistent=False)

    def update(self, predictions: Float[Tensor, "batch targets"], labels: Int64[Tensor, " batch"]) -> None:
        """Take in a batch; clips without a class, or without a prediction by each expert of the classes, are left out.

        Args:
            predictions: scores of all targets.
            labels: position of each clip's class, or `NO_CLASS`.
        """
        levels = (predictions[:, self._columns] - self._low) / self._span
        super().update(levels.argmax(1), labels.where(~levels.isnan().any(1), NO_CLASS))

    def compute(self) -> Float64[Tensor, ""]:
        """UA, 0 to 1; NaN where no clip has a class."""
        right, _, _, missed = self._final_state()
        given = right + missed
        return (right[given > 0].double() / given[given > 0]).mean()
