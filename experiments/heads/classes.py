"""Classification figures of experts, by argmax, and of what they are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from emonet.clips import Corpus, Split, values_of
from emonet.errors import RequestError
from emonet.evaluation import ClassScores, class_metrics, confusion, sample_classes
from emonet.schema import digest
from emonet.targets import NO_CLASS, Classes, ClassLabels, majority

if TYPE_CHECKING:
    from experiments.core import Experiment
    from experiments.heads.forms import HeadsData

MAJORITY = "majority"


def digest_of_labels(corpus: Corpus) -> dict[str, str]:
    """What of the labels fixes the figures, for a stage's inputs; empty where no classes can be told apart."""
    return {"labels": digest([corpus.classes, values_of(corpus.clips, "label")])} if corpus.classes else {}


def classes_of(data: HeadsData) -> Classes | None:
    """The classes that the experts tell apart, if any."""
    return Classes.among(data.corpus.classes, data.rated)


def class_labels(data: HeadsData) -> ClassLabels | None:
    """The class of each clip of the store, as the corpus has it by now; None where experts tell none apart."""
    classes = classes_of(data)
    return None if classes is None else ClassLabels(classes, classes.given(values_of(data.corpus.clips, "label")))


def class_scores(
    data: HeadsData, split: Split, predictions: Float[np.ndarray, "clips experts"], experiment: Experiment
) -> ClassScores | None:
    """Argmax of predictions of a split's usable clips against their labels; None where there are no classes."""
    classes = classes_of(data)
    if classes is None:
        return None
    predicted = classes.predicted(predictions, data.store.targets.subset(data.rated))
    return _scored(data, classes, split, predicted, experiment)


def baseline_class_scores(
    data: HeadsData, predictions: Mapping[str, Float[np.ndarray, "clips experts"]], experiment: Experiment
) -> dict[str, ClassScores]:
    """Test figures of the training clips' most frequent class, and of the argmax of every baseline that hears."""
    classes = classes_of(data)
    if classes is None:
        return {}
    frequent = majority(classes.given(data.labels("train")), len(data.store.rows("test")))
    found = {MAJORITY: _scored(data, classes, "test", frequent, experiment)}
    found |= {
        name: class_scores(data, "test", one, experiment) for name, one in predictions.items() if name != "median"
    }
    return {name: scores for name, scores in found.items() if scores is not None}


def unweighted_accuracy(data: HeadsData, split: Split, predictions: Float[np.ndarray, "clips experts"]) -> float | None:
    """UA alone, without intervals (0 to 1); None where no clip of the split has a class."""
    classes = classes_of(data)
    if classes is None or (classes.given(data.labels(split)) == NO_CLASS).all():
        return None
    given = classes.given(data.labels(split))
    matrix = confusion(given, classes.predicted(predictions, data.store.targets.subset(data.rated)), len(classes.names))
    return float(class_metrics(matrix[None])[1]["ua"][0])


def require_classes(data: HeadsData, wanted: str) -> None:
    """Check that UA on validation clips is defined.

    Args:
        data: store and corpus.
        wanted: what asks for it, e.g. `the objective ua`.

    Raises:
        RequestError: if experts tell no classes apart, or no validation clip has one of these.
    """
    classes = classes_of(data)
    if classes is None or (classes.given(data.labels("validation")) == NO_CLASS).all():
        meant = [label for label in data.corpus.labels if data.corpus.classes.get(label) is not None]
        raise RequestError(
            f"{wanted} is undefined: "
            + ("there are no classes" if classes is None else "no validation clip has a class"),
            where=data.corpus.name,
            expected="clips with class labels, and a target for each of two classes at least",
            found=f"{len(data.corpus.labels)} labels, {len(meant)} of which stand for targets",
            hint="--targets classes, or --labels FILE; docs/corpora.md describes both",
        )


def _scored(
    data: HeadsData, classes: Classes, split: Split, predicted: Int[np.ndarray, " clips"], experiment: Experiment
) -> ClassScores | None:
    sampled = sample_classes(
        classes.given(data.labels(split)),
        predicted,
        classes=classes.names,
        speakers=data.speakers(split),
        config=experiment.evaluation,
        seed=experiment.seed,
    )
    return None if sampled is None else sampled.scores()
