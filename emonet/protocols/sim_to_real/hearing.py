"""From synthetic to real, or sim-to-real: how well emotions name the classes of an acted corpus, untrained on it.

EmoNet-Voice (tables 7 and 11) maps emotions to classes, takes a softmax over the mapped emotions, and says that a class
is present if any of its emotions exceeds 1.5 / n, n being how many are mapped. This counts hits alone: who calls every
class has 100 %. So each figure stands beside what it would be if the calls had nothing to do with the clips, beside
precision, and beside figures with a price for false alarms: the class of the strongest emotion against the clip's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int
from scipy.special import softmax

from emonet.clips import Clip
from emonet.configs import EvaluationConfig
from emonet.errors import RequestError, shortened
from emonet.evaluation import ClassScores, Estimate, Scored, quotient, resampled_sums, sample_classes
from emonet.protocols.sim_to_real.mappings import ClassMapping
from emonet.targets import NO_CLASS, TargetSpec

FACTOR = 1.5
"""Of the paper's threshold: an emotion exceeds it whose share is half as large again as if all were equal."""

SPAN = 4.0
"""What the softmax takes scores to reach at most: the scale of the published experts. The paper names none."""


@dataclass(frozen=True)
class Heard:
    """The mapped emotions of clips that have a class and a score of each.

    Args:
        mapping: classes with the emotions that the model scores.
        levels: scores of its emotions, each from 0 to 1 on its own scale.
        given: position of each clip's class.
        speakers: who speaks, one per clip.
        clips: asked for (count).
        unlabelled: of them, how many have none of these classes.
        refused: of the others, how many have no score.
        unscored: mapped emotions that the model does not score.
    """

    mapping: ClassMapping
    levels: Float64[np.ndarray, "clips emotions"]
    given: Int[np.ndarray, " clips"]
    speakers: tuple[str, ...]
    clips: int
    unlabelled: int
    refused: int
    unscored: tuple[str, ...]

    def shares(self, span: float = SPAN) -> Float64[np.ndarray, "clips emotions"]:
        """Softmax over the emotions.

        Args:
            span: what a score at the upper end of its scale becomes; 0 is the lower end.
        """
        shares: Float64[np.ndarray, "clips emotions"] = softmax(span * self.levels, axis=1)
        return shares

    def called(self, factor: float = FACTOR, span: float = SPAN) -> Bool[np.ndarray, "clips classes"]:
        """Which classes the lenient rule calls present: those with an emotion whose share exceeds factor / n."""
        exceeds = self.shares(span) > factor / self.levels.shape[1]
        owner, classes = self.mapping.owner, len(self.mapping.classes)
        return np.stack([exceeds[:, owner == one].any(1) for one in range(classes)], 1)

    @cached_property
    def strongest(self) -> Int[np.ndarray, " clips"]:
        """The class of each clip's strongest emotion; of equally strong ones, the first in the mapping."""
        predicted: Int[np.ndarray, " clips"] = self.mapping.owner[self.levels.argmax(1)]
        return predicted

    @cached_property
    def tied(self) -> int:
        """Clips whose strongest emotions are equally strong and stand for several classes (count)."""
        highest = self.levels == self.levels.max(1, keepdims=True)
        owner = self.mapping.owner
        return int(sum(len(np.unique(owner[row])) > 1 for row in highest))

    @property
    def told(self) -> tuple[str, ...]:
        """What a reader has to know: what was left out, and what could not be heard."""
        silent = [name for name, emotions in self.mapping.classes.items() if not emotions]
        sentences = (
            (self.unlabelled, f"{self.unlabelled:,} of {self.clips:,} clips have none of the classes: left out"),
            (self.refused, f"{self.refused:,} of {self.clips:,} clips were refused, or lack a score: left out"),
            (
                len(self.unscored),
                f"the model does not score {shortened(self.unscored, 5)}: n is {len(self.mapping.emotions)}",
            ),
            (len(silent), f"it scores no emotion of {', '.join(silent)}: these classes are never called"),
            (self.tied, f"{self.tied:,} clips have equally strong emotions of several classes: the first one counts"),
        )
        return tuple(sentence for applies, sentence in sentences if applies)


@dataclass(frozen=True)
class Called:
    """How one class fares; shares from 0 to 1.

    Args:
        clips: that are of it (count).
        recall: of its clips, how many the lenient rule calls it in: what the paper reports.
        chance: of all clips, how many it is called in: the recall of calls that have nothing to do with the clips.
        precision: of the clips it is called in, how many are of it.
        false_alarms: of the other classes' clips, how many it is called in.
        top1_recall: of its clips, how many have an emotion of it as their strongest.
        top1_precision: of the clips with an emotion of it as their strongest, how many are of it.
    """

    clips: int
    recall: Estimate
    chance: Estimate
    precision: Estimate
    false_alarms: Estimate
    top1_recall: Estimate
    top1_precision: Estimate


@dataclass(frozen=True)
class Lenient:
    """The lenient rule over all classes.

    Args:
        overall: recall of the classes weighted by their sizes (0 to 1), as in the paper.
        chance: the same of calls that have nothing to do with the clips (0 to 1).
        precision: of all calls, how many are right (0 to 1).
        per_clip: classes called in a clip (mean).
    """

    overall: Estimate
    chance: Estimate
    precision: Estimate
    per_clip: Estimate


@dataclass(frozen=True)
class SimToReal:
    """What a model hears of a corpus' classes.

    Args:
        classes: by name, in the order of the mapping.
        lenient: the paper's rule.
        top1: the class of the strongest emotion: UA, WA (top-1 accuracy), macro F1, confusion.
        notes: what was left out.
    """

    classes: Mapping[str, Called]
    lenient: Lenient
    top1: ClassScores
    notes: tuple[str, ...]


def hear(scored: Scored, clips: Sequence[Clip], mapping: ClassMapping, *, spec: TargetSpec) -> Heard:
    """Take the mapped emotions out of a model's scores.

    Args:
        scored: of these clips, in any order.
        clips: with their labels and speakers.
        mapping: of emotions to the labels.
        spec: what the model scores, and on which scales.

    Raises:
        RequestError: if the scores are of other clips, the model scores emotions of fewer than two classes, or no clip
            has both a class and scores.
    """
    ids = [clip.id for clip in clips]
    _require_same(ids, list(map(str, scored.scores.index)))
    table = scored.scores.loc[ids]
    silent = {str(name) for name in table.columns if table[name].isna().all()}
    part = mapping.scored_by(TargetSpec(tuple(one for one in spec if one.id not in silent)))
    columns = [spec.index(emotion) for emotion in part.emotions]
    if sum(bool(emotions) for emotions in part.classes.values()) < 2:
        raise RequestError(
            "the model scores emotions of fewer than two classes",
            where=mapping.name,
            expected=f"some of {shortened(mapping.emotions, 6)}",
            found=shortened(spec.ids, 6) or "no targets",
        )
    scores = table[list(part.emotions)].to_numpy(np.float64)
    levels = (scores - spec.low[columns]) / (spec.high - spec.low)[columns]
    given = mapping.given([clip.label for clip in clips])
    labelled, known = given != NO_CLASS, np.isfinite(levels).all(1)
    rows = np.flatnonzero(labelled & known).tolist()
    if not rows:
        raise RequestError(
            "no clip has both a class and scores",
            where=mapping.name,
            expected=f"labels such as {', '.join(mapping.classes)}",
            found=shortened(sorted({clip.label or "no label" for clip in clips}), 6) or "no clips",
        )
    return Heard(
        part,
        levels[rows],
        given[rows],
        tuple(clips[row].speaker for row in rows),
        clips=len(clips),
        unlabelled=int((~labelled).sum()),
        refused=int((labelled & ~known).sum()),
        unscored=tuple(sorted(set(mapping.emotions) - set(part.emotions))),
    )


def random_scores(clips: Sequence[Clip], spec: TargetSpec, seed: int = 0) -> Scored:
    """Scores that have heard nothing, uniform over each scale: what the lenient rule makes of them is a warning."""
    scores = np.random.default_rng(seed).uniform(spec.low, spec.high, (len(clips), len(spec)))
    return Scored.of(clips, spec, scores.tolist())


def measure(
    heard: Heard, config: EvaluationConfig, *, factor: float = FACTOR, span: float = SPAN, seed: int = 0
) -> SimToReal:
    """Every figure of one model on one corpus, with intervals over speakers.

    Args:
        heard: its mapped emotions.
        config: resamples and coverage.
        factor: of the lenient rule's threshold.
        span: of the softmax.
        seed: of the resamples.
    """
    called = heard.called(factor, span)
    names = tuple(heard.mapping.classes)
    sampled = sample_classes(
        heard.given,
        heard.strongest,
        classes={name: name for name in names},
        speakers=heard.speakers,
        config=config,
        seed=seed,
    )
    assert sampled is not None  # every clip of `heard` has both classes
    top1 = sampled.scores()
    classes = {name: _called(row, heard, called, top1.recall[name], config, seed) for row, name in enumerate(names)}
    return SimToReal(classes, lenient(heard, config, factor=factor, span=span, seed=seed), top1, heard.told)


def lenient(
    heard: Heard, config: EvaluationConfig, *, factor: float = FACTOR, span: float = SPAN, seed: int = 0
) -> Lenient:
    """The lenient rule over all classes; the arguments of `measure`."""
    called, size = heard.called(factor, span).astype(float), len(heard.mapping.classes)
    given = (heard.given[:, None] == np.arange(size)).astype(float)
    sums = resampled_sums(np.concatenate([given, called, given * called], 1), heard.speakers, config, seed)
    each, calls, hits = (sums.sums[:, part * size : (part + 1) * size] for part in range(3))
    clips = each.sum(1)
    return Lenient(
        overall=sums.estimate(quotient(hits.sum(1), clips)),
        chance=sums.estimate(quotient((each * calls).sum(1), clips**2)),
        precision=sums.estimate(quotient(hits.sum(1), calls.sum(1))),
        per_clip=sums.estimate(quotient(calls.sum(1), clips)),
    )


def _called(
    row: int,
    heard: Heard,
    called: Bool[np.ndarray, "clips classes"],
    recall: Estimate,
    config: EvaluationConfig,
    seed: int,
) -> Called:
    given, call, strongest = heard.given == row, called[:, row], heard.strongest == row
    columns = (np.ones(len(given)), given, ~given, call, given & call, ~given & call, strongest, given & strongest)
    every, own, others, calls, hits, alarms, first, right = range(len(columns))
    sums = resampled_sums(np.stack(columns, 1).astype(float), heard.speakers, config, seed)
    return Called(
        clips=int(given.sum()),
        recall=sums.ratio(hits, own, given),
        chance=sums.ratio(calls, every),
        precision=sums.ratio(hits, calls, call),
        false_alarms=sums.ratio(alarms, others, ~given),
        top1_recall=recall,
        top1_precision=sums.ratio(right, first, strongest),
    )


def _require_same(clips: Sequence[str], scored: Sequence[str]) -> None:
    lacking, more = sorted(set(clips) - set(scored)), sorted(set(scored) - set(clips))
    if lacking or more or len(set(scored)) < len(scored) or len(set(clips)) < len(clips):
        raise RequestError(
            "the scores are of other clips",
            expected=f"one row for each of {len(clips):,} clips",
            found=f"{len(scored):,} rows; clips without one: {_some(lacking)}; rows of no clip: {_some(more)}",
        )


def _some(names: Sequence[str]) -> str:
    return f"{len(names):,} ({shortened(names, 3)})" if names else "none"
