"""Class labels as scores: a target for each class, or a prototype emotion for each by a mapping file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from emonet.clips import Clips, Coded, Corpus, Given
from emonet.errors import RequestError, brief, raise_collected
from emonet.tables import as_name
from emonet.targets import CLASSES, Target, TargetSpec, class_targets, spelling

_SHOWN = 5  # labels in a sentence
_NOTHING = "labels that stand for nothing; their clips get no scores"
_FORM = "lines such as `happy: elation`, and `neutral: null` for a class without emotion"


def as_classes(corpus: Corpus, spec: TargetSpec = CLASSES) -> Corpus:
    """The corpus with a target from 0 to 1 for each of its classes, in place of its other targets.

    A clip scores 1 for its own class and 0 for every other; without a label, or with another one, it has no score.

    Args:
        corpus: whose clips have labels.
        spec: the classes of a store, a model or a file; a label is of the one that it names, however it is spelled. By
            default those of all the corpus' splits.

    Raises:
        RequestError: if there are fewer than two classes, no clip of one is in the training split, or two labels differ
            in their spelling alone.
    """
    spec = spec if len(spec) else TargetSpec(tuple(_trained(corpus).values()))
    classes = {label: target.id for target in spec for label in _labels_of(target, spec, corpus) or (target.name,)}
    columns = corpus.columns
    scored = replace(columns, scores=_scores(columns.label, classes, spec), weights=Given.none(len(columns)))
    remarks = _remark(_NOTHING, [label for label in corpus.labels if label not in classes])
    return replace(corpus, clips=Clips(scored), targets=spec, classes=classes, remarks=(*corpus.remarks, *remarks))


def _labels_of(target: Target, spec: TargetSpec, corpus: Corpus) -> tuple[str, ...]:
    """The labels that name a class: by id, name or alias, however they are spelled."""
    return tuple(label for label in corpus.labels if label in spec and spec[label] is target)


def _trained(corpus: Corpus) -> dict[str, Target]:
    """A target for each class that a corpus can train."""
    targets = class_targets(corpus.labels)
    if len(targets) < 2:
        raise RequestError(
            "classes cannot be told apart where there are fewer than two",
            where=corpus.name,
            expected="clips with class labels: a column `label`, or manifest:FILE#COLUMN",
            found=f"{len(targets)} ({', '.join(targets)})" if targets else "no labels",
        )
    trained = set(corpus.columns.label.take(np.flatnonzero(corpus.in_split("train"))).present())
    spellings = Counter(name for target in targets.values() for name in {spelling(target.id), spelling(target.name)})
    alike = [x for x, target in targets.items() if max(spellings[spelling(target.id)], spellings[spelling(x)]) > 1]
    raise_collected(
        "the classes of the corpus cannot be trained",
        [f"no clip of the class {label!r} is in the split train" for label in targets if label not in trained]
        + ([f"the labels {', '.join(map(repr, alike))} differ in their spelling alone"] if alike else []),
        where=corpus.name,
        hint="emonet corpus without --targets shows the classes by split",
    )
    return targets


def as_prototypes(corpus: Corpus, mapping: Mapping[str, str | None], where: object = None) -> Corpus:
    """The corpus with scores for the emotions that its labels stand for.

    A clip has the highest score of its own label's emotion, the lowest of the other labels' emotions (those that the
    corpus knows by itself, too), and none of any other. A clip that has scores keeps them, and one whose label stands
    for nothing gets none.

    Args:
        corpus: whose clips have labels.
        mapping: label -> target, by id, name or alias; None for a class that is none of the emotions, such as neutral.
        where: what an error names: the file.

    Raises:
        RequestError: if a label stands for no target of the corpus; all in one message.
    """
    problems = []
    for label, target in mapping.items():
        try:
            if target is not None:
                corpus.targets.index(target)
        except RequestError as error:
            problems.append(f"{label}: " + " ".join(str(error).split()))
    raise_collected("labels stand for targets that there are not", problems, where=where, hint="emonet targets")
    classes = {
        label: None if target is None else corpus.targets.ids[corpus.targets.index(target)]
        for label, target in mapping.items()
    }
    meant = {**corpus.classes, **classes}  # all of them, so that it scores as itself when it is opened by them again
    columns = corpus.columns
    scores = columns.scores.filled(_scores(columns.label.only(~columns.scores.some()), meant, corpus.targets))
    unscored = columns.label.take(np.flatnonzero(~scores.some())).present()
    remarks = [
        *_remark(_NOTHING, sorted(unscored)),
        *_remark("labels that no clip has", [label for label in mapping if label not in corpus.labels]),
    ]
    return replace(
        corpus, clips=Clips(replace(columns, scores=scores)), classes=meant, remarks=(*corpus.remarks, *remarks)
    )


def read_mapping(path: Path) -> dict[str, str | None]:
    """The label -> target mapping of a YAML or JSON file.

    Raises:
        RequestError: if it cannot be read, or holds anything else; all problems in one message.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text("utf-8"))  # JSON is YAML, too
    except (OSError, yaml.YAMLError, RecursionError, ValueError) as error:  # ValueError: no UTF-8, or no such date
        reason = (error.strerror or error) if isinstance(error, OSError) else error
        raise RequestError("the file of labels cannot be read", where=path, expected=_FORM, found=reason) from error
    if not isinstance(values, dict) or not values:
        raise RequestError("the file of labels is no mapping", where=path, expected=_FORM, found=brief(values))
    problems = [problem for label, target in values.items() for problem in _problems(label, target)]
    raise_collected("the file of labels cannot be used", problems, where=path, hint=_FORM)
    return {as_name(label) or "": target for label, target in values.items()}


def _problems(label: Any, target: Any) -> list[str]:
    found = []
    if isinstance(label, bool) or not as_name(label):
        found.append(f"{brief(label)} is no label: write it in quotes")
    if not isinstance(target, str | None):
        found.append(f"{brief(label)}: {brief(target)} is no target's name")
    return found


def _scores(labels: Coded, classes: Mapping[str, str | None], spec: TargetSpec) -> Given:
    """The highest score of the target that each clip's label stands for, the lowest of the others."""
    targets = tuple(dict.fromkeys(target for target in classes.values() if target is not None))
    of_label = np.full((len(labels.names) + 1, len(targets)), np.nan)  # no label is the last one
    for row, label in enumerate(labels.names):
        if label in classes:
            own = classes[label]
            of_label[row] = [spec[target].high if target == own else spec[target].low for target in targets]
    return Given(targets, of_label[labels.codes])


def _remark(what: str, labels: list[str]) -> list[str]:
    shown = ", ".join(labels[:_SHOWN]) + (f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else "")
    return [f"{what}: {shown}"] if labels else []
