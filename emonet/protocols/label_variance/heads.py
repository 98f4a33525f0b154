"""Heads trained on raters' distributions against heads trained on their consensus, in one table by the same metrics.

A head is a softmax regression: linear, on standardised features, trained by cross-entropy. On distributions, each clip
counts in each class by the share of its ratings; on consensus, once, if the rule keeps it. Penalties are chosen fold by
fold on training speakers who are held out, by what the head is trained on; then it is trained on all training clips.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int
from threadpoolctl import threadpool_limits

from emonet.clips import Clip, Fold, Folds, check_folds, hold_out
from emonet.configs import EvaluationConfig
from emonet.errors import raise_collected, shortened
from emonet.protocols.label_variance.distributions import Distributions, Rule
from emonet.protocols.label_variance.metrics import TINY, distribution_table
from emonet.protocols.tables import ProtocolTable
from emonet.runtime import Progress, ignore
from emonet.targets import NO_CLASS

HEADS: dict[str, Rule] = {
    "head on distributions": "all_inclusive",
    "head on plurality": "plurality",
    "head on majority": "majority",
}
PRIOR = "mean of training labels"
COSTS = np.logspace(-5, 1, 7)  # inverses of the penalties, tried in this order until held-out clips fare no better
_ROUNDS = 300  # of L-BFGS; weak penalties that need more are none that validation chooses


def label_heads_table(
    features: Float[np.ndarray, "clips features"],
    truth: Distributions,
    clips: Sequence[Clip],
    folds: Folds,
    *,
    config: EvaluationConfig,
    seed: int = 0,
    progress: Progress = ignore,
) -> ProtocolTable:
    """Train heads on distributions and on consensus over folds, and judge them by the same metrics.

    Args:
        features: of each clip, such as statistics of an encoder's states.
        truth: labels, in any order; clips without ratings are left out.
        clips: whose the features are.
        folds: over speakers; each tested clip counts once.
        config: resamples and coverage of intervals.
        seed: of the resamples.
        progress: told about finished folds.

    Raises:
        RequestError: if features are not those of the clips or not finite, a fold tests speakers it is trained on, or
            no fold is left.
    """
    known = set(truth.clips)
    rated = np.array([clip.id in known for clip in clips], bool)
    _check(features, clips, folds)
    usable = folds.usable(rated)
    labels = truth.of([clip.id for clip, has in zip(clips, rated, strict=True) if has])
    place = np.cumsum(rated) - 1  # row of each rated clip among the labels
    predicted, trained, chosen = _over_folds(features, labels, clips, usable.folds, place, progress)
    tested = place[np.concatenate([fold.test for fold in usable.folds])]
    tested.sort()
    names = [labels.clips[row] for row in tested]
    by = f"penalties are chosen by held-out {' or '.join(sorted(chosen))}"
    speaker = {clip.id: clip.speaker for clip in clips}
    return distribution_table(
        labels.of(names),
        {name: values[tested] for name, values in predicted.items()},
        speakers=[speaker[name] for name in names],
        config=config,
        seed=seed,
        trained={name: round(count / len(usable.folds)) for name, count in trained.items()},
        name="label_heads",
        title="Heads trained on raters' distributions against heads trained on consensus",
        notes=(*_told(rated, len(names), usable), f"{len(usable.folds)} folds; training clips are their mean", by),
    )


def _over_folds(
    features: Float[np.ndarray, "clips features"],
    labels: Distributions,
    clips: Sequence[Clip],
    folds: Sequence[Fold],
    place: Int[np.ndarray, " clips"],
    progress: Progress,
) -> tuple[dict[str, Float64[np.ndarray, "rated classes"]], dict[str, int], set[str]]:
    """Of each head: distributions of tested clips (else NaN), and training clips over all folds; what was held out."""
    targets = {name: _targets(labels, rule) for name, rule in HEADS.items()}
    predicted = {name: np.full(labels.votes.shape, np.nan) for name in (PRIOR, *HEADS)}
    trained, chosen = dict.fromkeys(predicted, 0), set[str]()
    progress(0, len(folds))
    for number, fold in enumerate(folds, start=1):
        inner, held = hold_out(fold, clips)
        chosen.add(held)
        turn = _Turn.of(features, inner, fold, place)
        predicted[PRIOR][turn.test] = labels.shares[turn.every].mean(0)
        trained[PRIOR] += len(turn.every)
        for name, goal in targets.items():
            with threadpool_limits(1):  # problems this small are four times as slow on two cores
                predicted[name][turn.test] = turn.head(goal)
            trained[name] += int(goal[turn.every].any(1).sum())
        progress(number, len(folds))
    return predicted, trained, chosen


@dataclass(frozen=True)
class _Turn:
    """One fold: rows among the labels, and features as heads see them."""

    train: Int[np.ndarray, " train"]
    validation: Int[np.ndarray, " validation"]
    every: Int[np.ndarray, " every"]
    test: Int[np.ndarray, " test"]
    to_choose: tuple[np.ndarray, np.ndarray]
    to_test: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(
        cls, features: Float[np.ndarray, "clips features"], inner: Fold, fold: Fold, place: Int[np.ndarray, " clips"]
    ) -> _Turn:
        every = np.union1d(fold.train, fold.validation)
        return cls(
            train=place[inner.train],
            validation=place[inner.validation],
            every=place[every],
            test=place[fold.test],
            to_choose=_standardised(features[inner.train], features[inner.validation]),
            to_test=_standardised(features[every], features[fold.test]),
        )

    def head(self, targets: Float64[np.ndarray, "rated classes"]) -> Float64[np.ndarray, "test classes"]:
        """Test clips' distributions by a head whose penalty the held-out clips have chosen."""
        fit, goal = targets[self.train], targets[self.validation]
        best, lowest = COSTS[0], np.inf
        for cost in COSTS if fit.any() and goal.any() else ():
            told = np.maximum(_fit(*self.to_choose, fit, cost), TINY)
            loss = -(goal * np.log(told)).sum()
            if loss >= lowest:
                break
            best, lowest = cost, loss
        return _fit(*self.to_test, targets[self.every], best)


def _standardised(
    train: Float[np.ndarray, "train features"], other: Float[np.ndarray, "other features"]
) -> tuple[Float64[np.ndarray, "train coordinates"], Float64[np.ndarray, "other coordinates"]]:
    """Features on the scale of the training clips, in coordinates of which there are no more than clips.

    The penalty does not see the turn, and what no training clip varies in, no penalised head uses.
    """
    from sklearn.preprocessing import StandardScaler

    if not len(train):
        return train.astype(np.float64), other.astype(np.float64)
    scaler = StandardScaler().fit(train.astype(np.float64))
    inputs, others = (scaler.transform(one.astype(np.float64)) for one in (train, other))
    if inputs.shape[1] > len(inputs):
        powers, vectors = np.linalg.eigh(inputs @ inputs.T)  # far cheaper than a decomposition of the features
        there = powers >= 1e-9 * powers[-1]
        basis = inputs.T @ (vectors[:, there] / np.sqrt(powers[there].clip(np.finfo(float).tiny)))
        inputs, others = inputs @ basis, others @ basis
    return inputs, others


def _fit(
    inputs: Float64[np.ndarray, "train coordinates"],
    others: Float64[np.ndarray, "other coordinates"],
    targets: Float64[np.ndarray, "train classes"],
    cost: float,
) -> Float64[np.ndarray, "other classes"]:
    """Softmax regression on shares: a clip is one row for each class that it has, weighted by its share."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    rows, classes = np.nonzero(targets)
    told = np.zeros((len(others), targets.shape[1]))
    there = np.unique(classes)
    if len(there) < 2:  # nothing to tell apart: everything is that class, or any
        told[:, there] = 1.0
        return told if len(there) else np.full_like(told, 1 / told.shape[1])
    model = LogisticRegression(C=cost, max_iter=_ROUNDS)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ConvergenceWarning)
        model.fit(inputs[rows], classes, sample_weight=targets[rows, classes])
    told[:, there] = model.predict_proba(others)
    return told


def _targets(labels: Distributions, rule: Rule) -> Float64[np.ndarray, "rated classes"]:
    """What a head is trained on; zeros for clips that the rule drops."""
    if rule == "all_inclusive":
        return labels.shares
    given = labels.consensus(rule)
    targets = np.zeros(labels.votes.shape)
    kept = np.flatnonzero(given != NO_CLASS)
    targets[kept, given[kept]] = 1.0
    return targets


def _check(features: Float[np.ndarray, "clips features"], clips: Sequence[Clip], folds: Folds) -> None:
    problems = []
    if len(features) != len(clips):
        problems.append(f"{len(features):,} rows of features for {len(clips):,} clips")
    elif bad := [clips[row].id for row in np.flatnonzero(~np.isfinite(features).all(1)).tolist()]:
        problems.append(f"features that are not finite: {shortened(bad, 3)}")
    problems += [
        f"fold {fold.name} tests speakers that it trains on: {shortened(shared, 3)}"
        for fold in folds.folds
        if (shared := fold.shared(clips))
    ]
    raise_collected("heads cannot be compared", problems)
    check_folds(folds, clips, "folds")


def _told(rated: np.ndarray, tested: int, folds: Folds) -> tuple[str, ...]:
    unrated, untested = int((~rated).sum()), int(rated.sum()) - tested
    return (
        *([f"{unrated:,} clips have no label of raters: left out"] if unrated else []),
        *([f"{untested:,} rated clips are tested in no fold: left out"] if untested else []),
        *folds.remarks,
    )
