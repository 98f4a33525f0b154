"""The work behind the verb `compare`: states, predictions, baselines, costs, figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from emonet.clips import values_of
from emonet.configs import EvaluationConfig
from emonet.errors import RequestError
from emonet.evaluation import Classified, Comparison, Contender, ContenderFacts, compare
from emonet.targets import NO_CLASS, Classes, TargetSpec, majority
from emonet.windows import Window
from experiments.arguments import CompareArguments
from experiments.compare.clips import ComparedClips
from experiments.compare.costs import Costs
from experiments.compare.models import Model
from experiments.compare.origins import Origin, origin_notes
from experiments.compare.predictions import Predicted, predict, predict_baselines
from experiments.compare.scorers import ComparedScorer, score
from experiments.compare.states import Encoders, States, states_of
from experiments.core import console
from experiments.extract import EXACT
from experiments.heads import MAJORITY

_SHOWN = 5  # names in a sentence


@dataclass(frozen=True)
class Compared:
    """What is compared, and what came of it.

    Args:
        clips: all that were asked for.
        rows: of `clips`: those that every encoder has states of.
        targets: ids of those that every model scores and somebody rated.
        models: in the order given, scorers of plug-ins among them.
        origins: by label.
        predictions: by label, baselines included.
        comparison: all figures.
        warnings: what must not be overlooked.
    """

    clips: ComparedClips
    rows: np.ndarray
    targets: tuple[str, ...]
    models: Sequence[Model | ComparedScorer]
    origins: Mapping[str, Origin]
    predictions: Mapping[str, Float[np.ndarray, "clips targets"]]
    comparison: Comparison
    warnings: tuple[str, ...]

    @property
    def truth(self) -> Float[np.ndarray, "clips targets"]:
        """Scores of the compared clips, NaN where nobody rated."""
        return self.clips.scores(self.rows, self.targets)

    @property
    def rated(self) -> int:
        """Targets that somebody rated in these clips, whether all models score them or not (count)."""
        return int((~np.isnan(self.clips.truth)).any(0).sum())

    @property
    def forced(self) -> bool:
        """Whether a model was trained on some of the clips."""
        return any(origin.overlaps for origin in self.origins.values())


def compare_models(
    arguments: CompareArguments,
    models: Sequence[Model],
    clips: ComparedClips,
    origins: Mapping[str, Origin],
    scorers: Sequence[ComparedScorer] = (),
) -> Compared:
    """Run all models on the same clips, and compare what they predict.

    Args:
        arguments: of the verb.
        models: in the order given.
        clips: of the split.
        origins: by label.
        scorers: of plug-ins, in the order given.

    Raises:
        RequestError: if no target is common to all, or no clip could be read for all.
        EmonetError: if states cannot be read or made.
    """
    every: list[Model | ComparedScorer] = [*models, *scorers]
    if scorers:  # models alone are in order, and a champion that nobody typed may be among them
        every.sort(key=lambda one: arguments.models.index(one.given))
    targets, target_notes = common_targets(every, clips)
    encoders = Encoders(models)
    digests = dict.fromkeys(model.encoder_digest for model in models)
    states = {digest: states_of(digest, clips, encoders, arguments.runs) for digest in digests}
    ids, clip_notes = _common_clips(clips, states)
    scored = score(scorers, clips, ids, targets)
    ids, predicted = scored.ids, scored.predicted
    for digest, found in states.items():
        group = [model for model in models if model.encoder_digest == digest]
        predicted |= predict(group, found, ids, targets, arguments.experts_precision)
    window = next((found.window for found in states.values()), Window())
    baselines, notes = (
        predict_baselines(clips, ids, targets, window, arguments.runs) if arguments.baselines else ({}, [])
    )
    costs = Costs(clips, ids, encoders, arguments.experts_precision)
    contenders = [_contender(one, predicted[one.label], costs, origins[one.label]) for one in every]
    contenders += [Contender(name, scores, ContenderFacts(baseline=True)) for name, scores in baselines.items()]
    rows = clips.rows(ids)
    return Compared(
        clips=clips,
        rows=rows,
        targets=targets,
        models=every,
        origins=origins,
        predictions={contender.label: contender.predictions for contender in contenders},
        comparison=_compared(arguments, clips, rows, targets, contenders),
        warnings=(*origin_notes(origins), *_lossy(states), *target_notes, *clip_notes, *scored.notes, *notes),
    )


def _compared(
    arguments: CompareArguments,
    clips: ComparedClips,
    rows: np.ndarray,
    targets: tuple[str, ...],
    contenders: Sequence[Contender],
) -> Comparison:
    spec = clips.targets.subset(targets)
    return compare(
        clips.scores(rows, targets),
        contenders,
        targets=targets,
        speakers=clips.table["speaker"].iloc[rows].tolist(),
        config=EvaluationConfig(resamples=arguments.resamples),
        seed=arguments.seed,
        scale=(spec.low, spec.high),
        classified=_classified(clips, rows, targets, contenders),
    )


def _classified(
    clips: ComparedClips, rows: np.ndarray, targets: tuple[str, ...], contenders: Sequence[Contender]
) -> Classified | None:
    """Classes by argmax; in place of the median, whose argmax says nothing, the most frequent class of training."""
    classes = Classes.among(clips.classes, targets)
    if classes is None:
        return None
    given = classes.given([clips.labels[row] for row in rows])
    if (given == NO_CLASS).all():
        return None
    spec = clips.targets.subset(targets)
    heard = {
        each.label: each.predictions for each in contenders if not (each.facts.baseline and each.label == "median")
    }
    predicted = {label: classes.predicted(scores, spec) for label, scores in heard.items()}
    if len(heard) < len(contenders) and clips.corpus is not None:
        trained = classes.given(values_of(clips.corpus.of_split("train"), "label"))
        predicted[MAJORITY] = majority(trained, len(given))
    return Classified(classes.names, given, predicted)


def _contender(one: Model | ComparedScorer, predicted: Predicted, costs: Costs, origin: Origin) -> Contender:
    if isinstance(one, ComparedScorer):
        return Contender(one.label, predicted.scores, one.facts(predicted.milliseconds))
    return Contender(one.label, predicted.scores, costs.of(one, origin, predicted.milliseconds))


def common_targets(models: Sequence[Model | ComparedScorer], clips: ComparedClips) -> tuple[tuple[str, ...], list[str]]:
    """Ids of the targets that every model scores and somebody rated, and what is said of the others.

    Raises:
        RequestError: if there is none.
    """
    rated = [target for target, has in zip(clips.targets.ids, (~np.isnan(clips.truth)).any(0), strict=True) if has]
    comparable = {model.label: set(model.target_spec.also_in(clips.targets)) for model in models}
    common = tuple(target for target in rated if all(target in known for known in comparable.values()))
    if not common:
        raise RequestError(
            "there is no target that every model scores and somebody rated in these clips",
            where=f"{clips.on}, split {clips.split}",
            expected=f"one of {_listed(_scaled(rated, clips.targets), 'target')}" if rated else "clips with scores",
            found="; ".join(
                f"{label} scores {_listed(_scaled(spec.ids, spec), 'target')}"
                for label, spec in ((model.label, model.target_spec) for model in models)
            ),
        )
    absent = {model.label: [target for target in rated if target not in model.targets] for model in models}
    other = {
        model.label: [target for target in rated if target in model.targets and target not in comparable[model.label]]
        for model in models
    }
    unrated = [t for t in clips.targets.ids if t not in rated and all(t in model.targets for model in models)]
    notes = [
        f"left out, since {label} has no expert for it: {_listed(targets, 'target')}"
        for label, targets in absent.items()
        if targets
    ]
    notes += [
        f"left out, since {label} scores it on another scale: {_listed(targets, 'target')}"
        for label, targets in other.items()
        if targets
    ]
    if unrated:
        notes.append(f"left out, since nobody rated it in these clips: {_listed(unrated, 'target')}")
    return common, notes


def _common_clips(clips: ComparedClips, states: Mapping[str, States]) -> tuple[list[str], list[str]]:
    """Ids of the clips that every encoder has states of, and what is said of the others."""
    every = clips.table["id"].tolist()
    ids = [one for one in every if all(one in found.rows for found in states.values())]
    if not ids:
        raise RequestError("none of the clips could be read for every model", where=f"{clips.on}, split {clips.split}")
    there = set(ids)
    unread = [one for one in every if one not in there]
    return ids, [f"left out, since they could not be read: {_listed(unread, 'clip')}"] if unread else []


def _lossy(states: Mapping[str, States]) -> list[str]:
    """Which stores do not hold states as they were computed."""
    records = [(found.store.path, found.store.record) for found in states.values()]
    return [
        f"states in {path} are not as computed: codec {record.codec}, frames {record.kept}"
        for path, record in records
        if record.codec not in EXACT or record.kept != "all"
    ]


def _scaled(names: Sequence[str], spec: TargetSpec) -> list[str]:
    return [f"{name} {spec[name].low:g} to {spec[name].high:g}" for name in names]


def _listed(names: Sequence[str], unit: str) -> str:
    """`2 clips (a, b)`, the first few of them."""
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    return f"{console.counted(len(names), unit)} ({shown})"
