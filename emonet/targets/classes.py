"""Class labels: which target stands for which class, and the argmax over class experts that predicts one."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from emonet.targets.spec import CLASS, RESERVED, Target, TargetSpec

CLASSES = TargetSpec(())
"""The classes of a corpus, whatever they are: they are found when it is opened."""

NO_CLASS = -1  # of a clip without a label, or without a score of each class


@dataclass(frozen=True)
class Classes:
    """The classes that experts tell apart.

    Args:
        names: id of each target that stands for a class -> the label, or labels, that it stands for; in the order of
            the experts.
        labels: label -> position of its class.
    """

    names: Mapping[str, str]
    labels: Mapping[str, int]

    @classmethod
    def among(cls, classes: Mapping[str, str | None], experts: Sequence[str]) -> Classes | None:
        """Those of a corpus' classes that have an expert; None if fewer than two have.

        Args:
            classes: label -> id of the target that stands for it, if any does.
            experts: ids of the targets that have one, in their order.
        """
        meant: dict[str, list[str]] = defaultdict(list)
        for label, target in sorted(classes.items()):
            if target is not None:
                meant[target].append(label)
        names = {target: "/".join(meant[target]) for target in experts if target in meant}
        if len(names) < 2:
            return None
        return cls(names, {label: row for row, target in enumerate(names) for label in meant[target]})

    def given(self, labels: Sequence[str | None]) -> Int[np.ndarray, " clips"]:
        """The class of each label by its position; `NO_CLASS` for other labels and for none."""
        return np.array([NO_CLASS if label is None else self.labels.get(label, NO_CLASS) for label in labels], np.int64)

    def predicted(self, scores: Float[np.ndarray, "clips targets"], spec: TargetSpec) -> Int[np.ndarray, " clips"]:
        """The class whose expert is highest on its own scale, by its position; `NO_CLASS` where a score is missing.

        Args:
            scores: of the experts.
            spec: theirs, in the order of the columns.
        """
        columns = [spec.index(target) for target in self.names]
        levels = ((scores - spec.low) / (spec.high - spec.low))[:, columns]
        highest: Int[np.ndarray, " clips"] = np.where(np.isnan(levels).any(1), NO_CLASS, levels.argmax(1))
        return highest


@dataclass(frozen=True)
class ClassLabels:
    """The classes that experts tell apart, with that of each clip.

    Args:
        classes: what they are.
        given: position of each clip's class, or `NO_CLASS`; a row for each clip of a store.
    """

    classes: Classes
    given: Int[np.ndarray, " stored"]


def majority(given: Int[np.ndarray, " train"], clips: int) -> Int[np.ndarray, " clips"]:
    """The most frequent class of the training clips, for each of `clips`: what guessing gives.

    Args:
        given: classes of the training clips; `NO_CLASS` is left out.
        clips: how many to predict.
    """
    known = given[given != NO_CLASS]
    return np.full(clips, np.bincount(known).argmax() if len(known) else NO_CLASS, np.int64)


def class_targets(labels: Sequence[str]) -> dict[str, Target]:
    """A target from 0 to 1 for each class: label -> target, ordered by label."""
    return {
        label: Target(_identifier(label), label, 0.0, 1.0, f"whether the voice is of the class {label}", group=CLASS)
        for label in sorted(set(labels), key=lambda label: (label.casefold(), label))
    }


def are_classes(targets: TargetSpec) -> bool:
    """Whether a set of targets are the classes of a corpus: those of a store, or `CLASSES`, yet to be found."""
    return all(target.group == CLASS for target in targets)


def _identifier(label: str) -> str:
    """What columns and files are called after a label."""
    words = "_".join(re.findall(r"[^\W_]+", label.casefold()))
    return words if words[:1].isalpha() and words not in RESERVED else f"{CLASS}_{words}"
