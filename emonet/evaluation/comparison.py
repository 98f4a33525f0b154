"""Comparison of models: which is better, and could that be chance; paired bootstrap intervals and p values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from jaxtyping import Float, Float32
from pydantic import Field

from emonet.configs import EvaluationConfig
from emonet.errors import RequestError
from emonet.evaluation.bootstrap import Sampled, independent, sample
from emonet.evaluation.calibration_bins import Reliability, reliability
from emonet.evaluation.class_comparison import ClassDifference, Classified, ClassTest, sampled_classes
from emonet.evaluation.classification import CLASS_METRICS, ClassScores, SampledClasses
from emonet.evaluation.permutation import SwapTest, describe, holm, swapped
from emonet.evaluation.results import METRIC_NAMES, Estimate, MetricName, Scores, Unit
from emonet.schema import Schema

PERMUTATIONS = 10_000


class ContenderFacts(Schema):
    """What a model is and costs; None where it is not known."""

    source: str = ""
    """What it was asked for by: a registry URI, a run id or a folder."""
    baseline: bool = False
    """Whether it is a baseline: baselines are compared with models, not with each other."""
    seen_clips: int | None = Field(None, ge=0)
    """Clips of this comparison that the model was trained on (count); None where its training clips are not known."""
    parameters: int | None = Field(None, ge=0)
    """Weights of encoder and experts (count)."""
    megabytes: float | None = Field(None, ge=0)
    """Size of its files (MB)."""
    milliseconds: float | None = Field(None, ge=0)
    """Time per clip (ms)."""
    memory_mib: float | None = Field(None, ge=0)
    """Memory that running it takes (MiB)."""
    details: dict[str, str] = Field(default_factory=dict)
    """Further facts to show, such as fingerprints and how it is calibrated: label -> text."""


@dataclass(frozen=True)
class Contender:
    """A model, or a baseline, and its predictions.

    Args:
        label: what it is called; no two have the same.
        predictions: of the clips and targets that are compared.
        facts: what it is and costs.
    """

    label: str
    predictions: Float[np.ndarray, "clips targets"]
    facts: ContenderFacts = field(default_factory=ContenderFacts)


class TargetDifference(Schema):
    """By how much the error of one model exceeds that of another, for one emotion."""

    mae: Estimate
    """Difference of the mean absolute errors (in units of the score); below 0 the first model is better."""
    p: float | None
    """P value of the paired permutation test (0 to 1); None where nobody rated."""
    p_holm: float | None
    """The same, corrected over all emotions (Holm)."""
    clips: int = Field(ge=0)
    """Clips with a score (count)."""


class PairwiseDifference(Schema):
    """One model less another: a figure of `one` less that of `other`."""

    one: str
    """Label of the first model."""
    other: str
    """Label of the second model."""
    mean: dict[MetricName, Estimate]
    """Difference of each metric's mean over emotions, with its interval."""
    p: float | None
    """P value of the difference of the mean MAE (0 to 1)."""
    emotions: dict[str, TargetDifference]
    """By target id."""
    classes: ClassDifference | None = None
    """Of the classes that both predict; None where clips have none."""

    def swapped(self) -> PairwiseDifference:
        """The same with the models' places taken: signs and ends of intervals change, p values do not."""
        return PairwiseDifference(
            one=self.other,
            other=self.one,
            mean={name: _turned(estimate) for name, estimate in self.mean.items()},
            p=self.p,
            emotions={
                target: TargetDifference.model_validate({**dict(each), "mae": _turned(each.mae)})
                for target, each in self.emotions.items()
            },
            classes=None
            if self.classes is None
            else ClassDifference(**{name: _turned(self.classes.of(name)) for name in CLASS_METRICS}, p=self.classes.p),
        )

    def is_significant(self, alpha: float) -> bool:
        """Whether interval and test of the mean MAE agree that the models differ.

        Args:
            alpha: largest p value that counts (0 to 1).
        """
        return excludes_zero(self.mean["mae"]) and self.p is not None and self.p <= alpha

    def significant(self, alpha: float) -> tuple[str, ...]:
        """Ids of the emotions whose corrected p value is at most `alpha` (0 to 1)."""
        return tuple(t for t, each in self.emotions.items() if each.p_holm is not None and each.p_holm <= alpha)


class Comparison(Schema):
    """Several models on the same clips."""

    targets: tuple[str, ...]
    """Ids of the emotions."""
    clips: int = Field(ge=0)
    """Clips compared on (count)."""
    speakers: int = Field(ge=0)
    """Who speaks them (count)."""
    resampled: Unit
    """What the bootstrap drew."""
    resamples: int = Field(ge=1)
    """Bootstrap resamples behind each interval (count)."""
    confidence: float = Field(gt=0, lt=1)
    """Coverage of the intervals; 1 less this is the largest p value that counts (0 to 1)."""
    seed: int
    """Of resamples and swaps."""
    scores: dict[str, Scores]
    """By label, in the order given."""
    facts: dict[str, ContenderFacts]
    """By label."""
    reliability: dict[str, Reliability]
    """By label."""
    classes: dict[str, ClassScores] = Field(default_factory=dict)
    """By label: the class whose expert is highest, against the clips' labels; empty where they have none."""
    pairs: tuple[PairwiseDifference, ...]
    """Every model with every later one and with every baseline."""
    test: SwapTest
    """How p values were made."""

    @property
    def alpha(self) -> float:
        """Largest p value that counts (0 to 1)."""
        return round(1 - self.confidence, 12)

    @property
    def averaged(self) -> str:
        """What means are over, in words; the same for all models."""
        return next(iter(self.scores.values())).averaged()

    def pair(self, one: str, other: str) -> PairwiseDifference:
        """`one` less `other`, whichever was given first.

        Raises:
            KeyError: if these two were not compared.
        """
        for pair in self.pairs:
            if (pair.one, pair.other) == (one, other):
                return pair
            if (pair.one, pair.other) == (other, one):
                return pair.swapped()
        raise KeyError(f"{one!r} and {other!r} were not compared")

    def notes(self) -> tuple[str, ...]:
        """What a reader of its p values has to know, in sentences."""
        found = []
        test, alpha = self.test, self.alpha
        if not test.confirms(alpha):
            found.append(
                f"With {test.units} {test.unit} no p value can be below {test.smallest_p:.3g}: "
                "the permutation test cannot tell any difference here. Look at the intervals."
            )
        elif not test.confirms_emotions(alpha):
            found.append(
                f"With {test.units} {test.unit} no p value can be below {test.smallest_p:.3g}, and none below "
                f"{test.smallest_corrected:.2g} once corrected over {test.tests} targets: "
                "no single target can differ significantly here. Look at the intervals."
            )
        if self.resampled == "clips":
            found.append(
                f"There are only {self.speakers} speakers, so clips were resampled and swapped one by one: "
                "intervals and p values hold for these speakers, and are too small for others."
            )
        if len(self.pairs) > 1:
            found.append(f"P values are not corrected for there being {len(self.pairs)} pairs of models.")
        return tuple(found)


def compare(
    truth: Float[np.ndarray, "clips targets"],
    contenders: Sequence[Contender],
    *,
    targets: Sequence[str],
    speakers: Sequence[str],
    config: EvaluationConfig,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    scale: tuple[float | Float32[np.ndarray, " targets"], float | Float32[np.ndarray, " targets"]],
    classified: Classified | None = None,
) -> Comparison:
    """Compare models on the same clips, resamples and swaps.

    Args:
        truth: scores, NaN where nobody rated; such scores are left out.
        contenders: models and baselines with their predictions.
        targets: ids, one per column.
        speakers: who speaks, one per clip; below `FEWEST_SPEAKERS` clips are drawn and swapped instead.
        config: resamples and coverage of the intervals.
        permutations: most swaps behind each p value (count).
        seed: of resamples and swaps.
        scale: lowest and highest score, of all targets or of each, which bins of predicted scores cover; where targets
            have several scales, bins are of shares of them (0 to 1).
        classified: classes, where clips have labels.

    Raises:
        RequestError: if two contenders have the same label, or no clip has a score.
        ValueError: if there are no clips, or a prediction is not a finite number.
    """
    _check(truth, contenders)
    sampled = {
        contender.label: sample(
            truth, contender.predictions, targets=targets, speakers=speakers, config=config, seed=seed
        )
        for contender in contenders
    }
    owner, unit = independent(speakers)
    classes = sampled_classes(classified, speakers, config, seed)
    pairs = _pairs(truth, contenders, sampled, speakers=speakers, permutations=permutations, seed=seed)
    if classified is not None:
        tested = ClassTest(classified, speakers, permutations, seed)
        pairs = tuple(_with_classes(pair, classes, tested) for pair in pairs)
    return Comparison(
        targets=tuple(targets),
        clips=len(truth),
        speakers=len(set(speakers)),
        resampled=unit,
        resamples=config.resamples,
        confidence=config.confidence,
        seed=seed,
        scores={label: each.scores() for label, each in sampled.items()},
        facts={contender.label: contender.facts for contender in contenders},
        reliability={each.label: _reliability(truth, each.predictions, scale) for each in contenders},
        classes={label: each.scores() for label, each in classes.items()},
        pairs=pairs,
        test=describe(unit, owner, truth, permutations),
    )


def _check(truth: Float[np.ndarray, "clips targets"], contenders: Sequence[Contender]) -> None:
    labels = [contender.label for contender in contenders]
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise RequestError(
            "two models have the same name", expected="a name for each", found=repr(twice), hint="name each model once"
        )
    if len(truth) and np.isnan(truth).all():
        raise RequestError("models cannot be compared: no clip has a score", found=f"{len(truth)} clips without scores")


def _reliability(
    truth: Float[np.ndarray, "clips targets"],
    predictions: Float[np.ndarray, "clips targets"],
    scale: tuple[float | np.ndarray, float | np.ndarray],
) -> Reliability:
    low, high = (np.asarray(end, np.float64) for end in scale)
    if np.ptp(low) or np.ptp(high):
        truth, predictions = ((scores - low) / (high - low) for scores in (truth, predictions))
        low, high = np.zeros(1), np.ones(1)
    return reliability(truth, predictions, scale=(float(low.min()), float(high.max())))


def excludes_zero(estimate: Estimate) -> bool:
    """Whether an interval lies on one side of 0."""
    return estimate.low is not None and estimate.high is not None and (estimate.low > 0 or estimate.high < 0)


def _pairs(
    truth: Float[np.ndarray, "clips targets"],
    contenders: Sequence[Contender],
    sampled: Mapping[str, Sampled],
    *,
    speakers: Sequence[str],
    permutations: int,
    seed: int,
) -> tuple[PairwiseDifference, ...]:
    pairs = [
        (one, other)
        for one, other in combinations(sorted(contenders, key=lambda each: each.facts.baseline), 2)
        if not one.facts.baseline
    ]
    if not pairs:
        return ()
    owner, _ = independent(speakers)
    errors = {each.label: np.abs(each.predictions.astype(np.float64) - truth) for each in contenders}
    # One pair after another: all use the same swaps, and memory stays that of one.
    p_values = [
        swapped(errors[one.label] - errors[other.label], owner, permutations=permutations, seed=seed)
        for one, other in pairs
    ]
    clips = (~np.isnan(truth)).sum(0)
    return tuple(
        _pair(sampled[one.label], sampled[other.label], (one.label, other.label), p, clips)
        for (one, other), p in zip(pairs, p_values, strict=True)
    )


def _pair(
    one: Sampled, other: Sampled, labels: tuple[str, str], p: np.ndarray, clips: np.ndarray
) -> PairwiseDifference:
    differences = {name: one.minus(other, name) for name in METRIC_NAMES}
    *each, of_mean = [None if np.isnan(value) else float(value) for value in p]
    emotions = {
        target: TargetDifference(mae=differences["mae"].per_target[target], p=raw, p_holm=corrected, clips=int(count))
        for target, raw, corrected, count in zip(one.targets, each, holm(each), clips, strict=True)
    }
    mean = {name: difference.mean for name, difference in differences.items()}
    return PairwiseDifference(one=labels[0], other=labels[1], mean=mean, p=of_mean, emotions=emotions)


def _with_classes(
    pair: PairwiseDifference, classes: Mapping[str, SampledClasses], test: ClassTest
) -> PairwiseDifference:
    if pair.one not in classes or pair.other not in classes:
        return pair
    differences = classes[pair.one].minus(classes[pair.other])
    found = ClassDifference(**differences, p=test.p(pair.one, pair.other))
    return PairwiseDifference.model_validate({**dict(pair), "classes": found})


def _turned(estimate: Estimate) -> Estimate:
    def minus(value: float | None) -> float | None:
        return None if value is None else 0.0 - value  # 0.0 stays 0.0

    return Estimate(value=minus(estimate.value), low=minus(estimate.high), high=minus(estimate.low))
