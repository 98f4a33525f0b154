"""Linear regressions: ridge and support vectors; the penalty of each target is chosen on validation clips.

Both need no more than products between clips where there are fewer clips than features, so that 6,373 features cost as
little as 88.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import final

import numpy as np
from jaxtyping import Float, Float64, Int

ALPHAS = np.logspace(-1, 7, 17)  # ridge: penalties tried; inputs are standardised
COSTS = np.logspace(-3, 1, 5)  # support vectors: costs tried; products are divided by the number of features
TUBE = 0.1  # support vectors: errors that cost nothing, in deviations of a target's scores
MOST_BYTES = 1 << 30  # of training features
PREDICTED = 1 << 14  # clips at once
MOST_SUPPORTED = 2000  # training clips: 40 targets take one to two minutes on a core

Part = tuple[Float[np.ndarray, "clips features"], Float[np.ndarray, "clips targets"]]
"""Features and scores of some clips, NaN where nobody rated."""


@final
@dataclass(frozen=True)
class LinearModel:
    """A linear function of the features for each target.

    Args:
        weights: shape (features, targets).
        offset: its value where all features are 0.
    """

    weights: Float64[np.ndarray, "features targets"]
    offset: Float64[np.ndarray, " targets"]

    def predict(self, inputs: Float[np.ndarray, "clips features"]) -> Float64[np.ndarray, "clips targets"]:
        """Unclamped scores."""
        scores = np.empty((len(inputs), len(self.offset)))
        for start in range(0, len(inputs), PREDICTED):  # in float64 all inputs may not fit
            scores[start : start + PREDICTED] = inputs[start : start + PREDICTED].astype(np.float64) @ self.weights
        scores += self.offset
        return scores


Fit = Callable[[Part, Part], LinearModel]


def fit_ridge(train: Part, validation: Part) -> LinearModel:
    """Ridge regression; of its penalties, each target takes the one with the least squared error on validation clips.

    Args:
        train: at most a GiB of features counts: of more clips, some that are spread over all of them.
        validation: the same; each target has a score there, as in `train`.
    """
    return _fitted(_some(train), _some(validation), _ridge)


def fit_svr(train: Part, validation: Part) -> LinearModel:
    """Linear support vector regression (libsvm's); of its costs, each target takes the best one, as in `fit_ridge`.

    Args:
        train: at most 2,000 clips count: of more, some that are spread over all of them.
        validation: each target has a score there, as in `train`.
    """
    rows = _spread(train[1], MOST_SUPPORTED)
    return _fitted((train[0][rows], train[1][rows]), _some(validation), _support_vectors)


def some_clips(scores: Float[np.ndarray, "clips targets"], features: int) -> Int[np.ndarray, " some"]:
    """Clips to fit a ridge regression on: all, or as many as a GiB of features holds, spread over all of them.

    Args:
        scores: NaN where nobody rated; a target that is rated in one clip is rated in one of these.
        features: of a clip (count).
    """
    return _spread(scores, max(1, MOST_BYTES // (8 * features)))


def _some(part: Part) -> Part:
    rows = some_clips(part[1], part[0].shape[1])
    return part[0][rows], part[1][rows]


REGRESSIONS: Mapping[str, Fit] = MappingProxyType({"ridge": fit_ridge, "svr": fit_svr})

_Raw = tuple[np.ndarray, np.ndarray]
_Columns = Callable[[Part, Part], _Raw]


def _fitted(train: Part, validation: Part, fit: _Columns) -> LinearModel:
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train[0].astype(np.float64))
    fit_x, tune_x = (scaler.transform(x.astype(np.float64)) for x in (train[0], validation[0]))
    weights, offset = np.zeros((fit_x.shape[1], train[1].shape[1])), np.zeros(train[1].shape[1])
    for columns, known in _same_clips(train[1]):
        part = (fit_x[known], train[1][np.ix_(known, columns)].astype(np.float64))
        weights[:, columns], offset[columns] = fit(part, (tune_x, validation[1][:, columns]))
    weights /= scaler.scale_[:, None]
    return LinearModel(weights, offset - scaler.mean_ @ weights)


def _ridge(train: Part, validation: Part) -> _Raw:
    """All penalties by one decomposition, of the products between clips or between features, whichever are fewer."""
    centre, level = train[0].mean(0), train[1].mean(0)
    inputs, scores = train[0] - centre, train[1] - level
    if len(inputs) < inputs.shape[1]:
        powers, vectors = np.linalg.eigh(inputs @ inputs.T)
        basis, along = inputs.T @ vectors, vectors.T @ scores
    else:
        powers, basis = np.linalg.eigh(inputs.T @ inputs)
        along = basis.T @ (inputs.T @ scores)
    held = (validation[0] - centre) @ basis
    paths = [along / (powers.clip(0) + alpha)[:, None] for alpha in ALPHAS]
    errors = [_squared_error(held @ path + level, validation[1]) for path in paths]
    best = np.stack(paths)[np.argmin(errors, 0), :, np.arange(len(level))].T
    weights = basis @ best
    return weights, level - centre @ weights


def _support_vectors(train: Part, validation: Part) -> _Raw:
    from sklearn.svm import SVR

    inputs, width = train[0], train[0].shape[1]
    products, held = inputs @ inputs.T / width, validation[0] @ inputs.T / width
    level, spread = train[1].mean(0), train[1].std(0)
    spread[spread == 0] = 1.0
    weights, offset = np.zeros((width, len(level))), np.zeros(len(level))
    for column, scores in enumerate(((train[1] - level) / spread).T):
        models = [SVR(kernel="precomputed", C=cost, epsilon=TUBE).fit(products, scores) for cost in COSTS]
        truth = ((validation[1][:, column] - level[column]) / spread[column])[:, None]
        errors = [_squared_error(model.predict(held)[:, None], truth)[0] for model in models]
        best = models[int(np.argmin(errors))]
        weights[:, column] = inputs[best.support_].T @ best.dual_coef_[0] / width
        offset[column] = best.intercept_[0]
    return weights * spread, offset * spread + level


def _spread(scores: Float[np.ndarray, "clips targets"], most: int) -> Int[np.ndarray, " some"]:
    clips = len(scores)
    if clips <= most:
        return np.arange(clips)
    rows = np.linspace(0, clips - 1, most).round().astype(int)
    unrated = np.flatnonzero(np.isnan(scores[rows]).all(0))  # in none of these by chance: then in one clip more
    return np.unique([*rows, *(~np.isnan(scores[:, unrated])).argmax(0)])


def _same_clips(scores: Float[np.ndarray, "clips targets"]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Targets that the same clips are rated for, and those clips: one regression serves them all."""
    known = ~np.isnan(scores)
    patterns, which = np.unique(known, axis=1, return_inverse=True)
    for pattern in range(patterns.shape[1]):
        yield np.flatnonzero(which.ravel() == pattern), np.flatnonzero(patterns[:, pattern])


def _squared_error(
    predictions: Float[np.ndarray, "clips targets"], scores: Float[np.ndarray, "clips targets"]
) -> Float[np.ndarray, " targets"]:
    errors: np.ndarray = np.nanmean(np.square(predictions - scores), axis=0)
    return errors
