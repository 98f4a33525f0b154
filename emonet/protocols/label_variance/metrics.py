"""Metrics of predicted distributions: KL, Jensen-Shannon, EMO-SUPERB's 1/C rule, n-best hypotheses; and their table.

All models of a table are judged on the same clips: distributions on all of them, single classes on those with a
plurality, and once more on those with a majority, which are the easier ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int
from scipy.special import softmax

from emonet.configs import EvaluationConfig
from emonet.errors import RequestError, raise_collected
from emonet.evaluation import Estimate, Scored, quotient, resampled_sums, sample_classes
from emonet.protocols.label_variance.distributions import CONSENSUS, Distributions
from emonet.protocols.sim_to_real.hearing import SPAN
from emonet.protocols.tables import Cell, Column, ProtocolTable, Row
from emonet.targets import NO_CLASS, TargetSpec

FLOOR = 0.01
"""What a label's zeros become in EMO-SUPERB, so that its divergences are finite for whoever predicts no zero."""

TINY = 1e-6  # what a predicted zero becomes: no arithmetic of ours would make an infinite divergence meaningful
BEST = (2, 3)  # hypotheses of n-best accuracies


def smoothed(
    shares: Float64[np.ndarray, "clips classes"], floor: float = FLOOR
) -> Float64[np.ndarray, "clips classes"]:
    """Distributions whose zeros became `floor`; rows add up to 1 again."""
    filled = np.where(shares > 0, shares, floor)
    result: Float64[np.ndarray, "clips classes"] = filled / filled.sum(1, keepdims=True)
    return result


def kl_divergence(
    truth: Float64[np.ndarray, "clips classes"], predicted: Float64[np.ndarray, "clips classes"]
) -> Float64[np.ndarray, " clips"]:
    """Kullback-Leibler divergence of each clip's prediction from its label, in nats; 0 where they agree.

    Labels are taken as they are: `smoothed` ones give EMO-SUPERB's.
    """
    told = np.maximum(predicted, TINY)
    logs = np.log(np.where(truth > 0, truth, 1.0)) - np.log(told)
    divergence: Float64[np.ndarray, " clips"] = (truth * logs).sum(1)
    return divergence


def jensen_shannon(
    truth: Float64[np.ndarray, "clips classes"], predicted: Float64[np.ndarray, "clips classes"]
) -> Float64[np.ndarray, " clips"]:
    """Jensen-Shannon divergence in bits: 0 where they agree, 1 where they share no class. No distance: no root."""
    middle = (truth + predicted) / 2
    safe = np.where(middle > 0, middle, 1.0)
    halves = [(one * np.log2(np.where(one > 0, one, 1.0) / safe)).sum(1, where=one > 0) for one in (truth, predicted)]
    divergence: Float64[np.ndarray, " clips"] = np.abs(halves[0] + halves[1]) / 2
    return divergence


def one_over_c(shares: Float64[np.ndarray, "clips classes"]) -> Bool[np.ndarray, "clips classes"]:
    """EMO-SUPERB's rule, of labels and of predictions: a class is there if its share exceeds 1 / C.

    It is applied to labels before they are smoothed, which moves shares of many raters below the threshold.
    """
    there: Bool[np.ndarray, "clips classes"] = (
        shares > 1 / shares.shape[1] + 1e-9
    )  # equal shares exceed nothing, however they were rounded
    return there


def n_best(
    given: Int[np.ndarray, " clips"], predicted: Float64[np.ndarray, "clips classes"], n: int
) -> Float64[np.ndarray, " clips"]:
    """Whether each clip's class is among the n most likely ones; NaN for `NO_CLASS`.

    Of classes that are equally likely, those that still have room are drawn: a clip's figure is the chance to be.
    """
    own = np.take_along_axis(predicted, np.maximum(given, 0)[:, None], 1)
    above, level = (predicted > own).sum(1), (predicted == own).sum(1)
    hits: Float64[np.ndarray, " clips"] = np.where(given == NO_CLASS, np.nan, np.clip((n - above) / level, 0, 1))
    return hits


def predicted_distributions(
    scored: Scored, classes: Sequence[str], *, spec: TargetSpec, span: float = SPAN
) -> tuple[tuple[str, ...], Float64[np.ndarray, "clips classes"]]:
    """A model's scores of classes as distributions: their softmax, as in sim-to-real.

    Args:
        scored: of any clips; those that were refused are left out.
        classes: ids of the targets, in the order of the labels' classes.
        spec: what the model scores, and on which scales.
        span: what a score at the upper end of its scale becomes; 0 is the lower end.

    Returns:
        Ids of the clips, and their distributions.

    Raises:
        RequestError: if the model does not score one of the classes.
    """
    columns = [spec.index(name) for name in classes]
    scores = scored.scores[[spec.ids[column] for column in columns]].to_numpy(np.float64)
    known = np.isfinite(scores).all(1)
    levels = (scores[known] - spec.low[columns]) / (spec.high - spec.low)[columns]
    clips = tuple(str(name) for name, has in zip(scored.scores.index, known, strict=True) if has)
    return clips, softmax(span * levels, axis=1)


def distribution_table(
    truth: Distributions,
    models: Mapping[str, Float64[np.ndarray, "clips classes"]],
    *,
    speakers: Sequence[str],
    config: EvaluationConfig,
    seed: int = 0,
    trained: Mapping[str, int] | None = None,
    name: str = "label_distributions",
    title: str = "Predicted distributions over classes against those of the raters",
    notes: Sequence[str] = (),
) -> ProtocolTable:
    """Models that predict distributions, by the same metrics on the same clips.

    Args:
        truth: labels of the clips.
        models: by name, a distribution for each clip.
        speakers: who speaks, one per clip.
        config: resamples and coverage of the intervals over speakers.
        seed: of the resamples.
        trained: model -> on how many clips (count).
        name: of the table.
        title: of the table.
        notes: what a reader has to know beside.

    Raises:
        RequestError: if a prediction is no distribution over the classes, or not of these clips.
    """
    raise_collected("predictions cannot be used", [p for one in models.items() for p in _wrong(*one, truth)])
    if not truth.clips:
        raise RequestError("there are no clips with ratings")
    kept = {rule: int(truth.kept(rule).sum()) for rule in CONSENSUS}
    rows = []
    for model, predicted in models.items():
        cells: dict[str, Cell] = {"model": model, "trained": (trained or {}).get(model)}
        cells |= _distributed(truth, predicted, speakers, config, seed)
        cells |= _classified(truth, predicted, speakers, config, seed)
        rows.append(Row(cells=cells))
    there: list[bool] = np.any(one_over_c(truth.shares), axis=0).tolist()
    absent = [label for label, known in zip(truth.classes, there, strict=True) if not known]
    told = f"1/C rule: no clip has {', '.join(absent)}, so that its F1 counts only where it is predicted"
    return ProtocolTable(
        name=name,
        compete=True,
        title=title,
        source="All-inclusive rule (Chou et al.), EMO-SUPERB (arXiv 2402.13018)",
        columns=_COLUMNS,
        rows=tuple(rows),
        notes=(
            f"KL, JS and the 1/C rule: all {len(truth.clips):,} clips, {len(truth.classes)} classes",
            f"classes and n-best: the {kept['plurality']:,} clips with a plurality; last column: the "
            f"{kept['majority']:,} with a majority",
            *([told] if absent else []),
            *notes,
        ),
    )


_COLUMNS = (
    Column(name="model", label="Model"),
    Column(name="trained", label="Trained on", about="clips (count)"),
    Column(name="kl", label="KL", better="lower", about=f"divergence from labels, zeros of which are {FLOOR} (nats)"),
    Column(name="js", label="JS", better="lower", about="Jensen-Shannon divergence from labels (bits, 0 to 1)"),
    Column(name="one_over_c", label="1/C macro F1", better="higher", about="classes above 1/C in label and prediction"),
    Column(name="ua", label="UA", better="higher", about="mean recall over the classes of plurality"),
    Column(name="wa", label="WA", better="higher", about="clips whose plurality is predicted (0 to 1)"),
    Column(name="macro_f1", label="macro F1", better="higher", about="over the classes of plurality"),
    *(
        Column(name=f"best{n}", label=f"{n}-best", better="higher", about=f"plurality among the {n} likeliest (0 to 1)")
        for n in BEST
    ),
    Column(name="majority_wa", label="WA (majority)", better="higher", about="clips whose majority is predicted"),
)


def _distributed(
    truth: Distributions,
    predicted: Float64[np.ndarray, "clips classes"],
    speakers: Sequence[str],
    config: EvaluationConfig,
    seed: int,
) -> dict[str, Estimate]:
    label, told = one_over_c(truth.shares), one_over_c(predicted)
    size = label.shape[1]
    columns = np.column_stack(
        [
            np.ones(len(label)),
            kl_divergence(smoothed(truth.shares), predicted),
            jensen_shannon(truth.shares, predicted),
            label & told,
            label.astype(float) + told,
        ]
    )
    sums = resampled_sums(columns, speakers, config, seed)
    f1 = quotient(2 * sums.sums[:, 3 : 3 + size], sums.sums[:, 3 + size :])
    defined = np.isfinite(f1)
    mean = quotient(np.where(defined, f1, 0.0).sum(1), defined.sum(1).astype(float))
    return {"kl": sums.ratio(1, 0), "js": sums.ratio(2, 0), "one_over_c": sums.estimate(mean)}


def _classified(
    truth: Distributions,
    predicted: Float64[np.ndarray, "clips classes"],
    speakers: Sequence[str],
    config: EvaluationConfig,
    seed: int,
) -> dict[str, Estimate]:
    names, first = {name: name for name in truth.classes}, predicted.argmax(1)
    by_rule = {
        rule: sample_classes(truth.consensus(rule), first, classes=names, speakers=speakers, config=config, seed=seed)
        for rule in CONSENSUS
    }
    found: dict[str, Estimate] = {}
    if (plural := by_rule["plurality"]) is not None:
        scores = plural.scores()
        found = {"ua": scores.ua, "wa": scores.wa, "macro_f1": scores.macro_f1}
    if (major := by_rule["majority"]) is not None:
        found["majority_wa"] = major.scores().wa
    given = truth.consensus("plurality")
    agreed = given != NO_CLASS
    for n in BEST:
        if n < len(names) and agreed.any():  # with so many classes every clip is among the best
            hits = np.nan_to_num(n_best(given, predicted, n))
            sums = resampled_sums(np.column_stack([hits, agreed]), speakers, config, seed)
            found[f"best{n}"] = sums.ratio(0, 1, agreed)
    return found


def _wrong(model: str, predicted: Float64[np.ndarray, "clips classes"], truth: Distributions) -> list[str]:
    expected = (len(truth.clips), len(truth.classes))
    if predicted.shape != expected:
        return [f"{model}: {expected[0]:,} clips x {expected[1]} classes are expected; found {predicted.shape}"]
    bad = ~(np.isfinite(predicted).all(1) & (predicted >= 0).all(1) & np.isclose(predicted.sum(1), 1, atol=1e-4))
    clips = [truth.clips[row] for row in np.flatnonzero(bad)]
    return [f"{model}: {len(clips):,} clips have no shares that add up to 1, such as {clips[0]}"] if clips else []
