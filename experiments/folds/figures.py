"""Figures out of the table of predictions of all folds: of the experts, and of each baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int64

from emonet.clips import Corpus
from emonet.evaluation import ClassScores, FoldEstimate, Scores, evaluate, fold_classes, fold_scores, sample_classes
from emonet.targets import NO_CLASS, Classes
from experiments.core import Experiment
from experiments.folds.results import FoldFigures
from experiments.folds.training import class_column, column_of


@dataclass(frozen=True)
class Tested:
    """What all folds' experts, or a baseline, give on test clips.

    Args:
        figures: over folds.
        scores: on all clips together; None for a baseline that gives no scores.
        classes: the same of classes; None where there are none.
    """

    figures: FoldFigures
    scores: Scores | None
    classes: ClassScores | None


def tested(name: str, table: pd.DataFrame, rated: tuple[str, ...], corpus: Corpus, experiment: Experiment) -> Tested:
    """The figures of one model.

    Args:
        name: experts, or that of a baseline.
        table: of the test clips of all folds, fold after fold.
        rated: targets that have an expert in some fold; where one has none, its clips are left out.
        corpus: that the clips are of.
        experiment: says how intervals are made.
    """
    folds, _ = pd.factorize(table["fold"])
    speakers = table["speaker"].tolist()
    options: dict[str, Any] = {"speakers": speakers, "config": experiment.evaluation, "seed": experiment.seed}
    found: dict[str, FoldEstimate] = {}
    scores, classes = None, None
    if f"{column_of(name)}.{rated[0]}" in table:
        truth, predictions = (
            table[[f"{kind}.{target}" for target in rated]].to_numpy(np.float64) for kind in ("truth", column_of(name))
        )
        truth, predictions = np.where(np.isnan(predictions), np.nan, truth), np.nan_to_num(predictions)
        scores = evaluate(truth, predictions, targets=rated, **options)
        found.update(fold_scores(truth, predictions, scores, folds=folds, **options).items())
    told = Classes.among(corpus.classes, rated)
    if told is not None and class_column(name) in table:
        given, predicted = (_positions(table[column], told) for column in ("class", class_column(name)))
        sampled = sample_classes(given, predicted, classes=told.names, **options)
        if sampled is not None:
            classes = sampled.scores()
            by_name = fold_classes(given, predicted, classes, folds=folds, **options)
            found |= {"ua": by_name["ua"], "wa": by_name["wa"], "f1": by_name["macro_f1"]}
    return Tested(FoldFigures.model_validate(found), scores, classes)


def _positions(targets: pd.Series, classes: Classes) -> Int64[np.ndarray, " clips"]:
    places = {target: place for place, target in enumerate(classes.names)}
    return np.array([places.get(target, NO_CLASS) for target in targets], np.int64)
