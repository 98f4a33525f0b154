"""The report page of an experiment: test figures, plots, and how they were made, in `runs/EXPERIMENT/report/`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

from emonet.baselines import ABOUT, STATES
from emonet.targets import TargetSpec
from experiments.core import INDEX, Experiment, decoration, render, write_text

CONFUSION = "confusion.png"
LAYERS = "Layers"

if TYPE_CHECKING:
    from emonet.evaluation import ClassScores, EnsembleFigures, Scores
    from experiments.heads.layers import LayerWeights


class Picture(NamedTuple):
    """A plot on the page.

    Args:
        title: its heading.
        file: PNG beside the page.
        text: what to see in it.
    """

    title: str
    file: str
    text: str


@dataclass(frozen=True)
class Findings:
    """What a report is made of.

    Args:
        rows: label -> test figures; the first is the chosen experts', the rest other forms and baselines.
        spec: the rated targets, in the order of the columns.
        truth: test scores, NaN where nobody rated.
        predictions: of the chosen experts.
        note: what the corpus says of itself.
        facts: label -> text, how it was made.
        classes: label -> classification figures, as `rows`; empty where clips have no classes.
        layers: what the chosen experts make of the encoder's layers; None where they mix none.
        uncertainty: of the chosen experts' ensembles; None where each target has one expert.
        remarks: sentences that stand below the figures.
    """

    rows: Mapping[str, Scores]
    spec: TargetSpec
    truth: Float[np.ndarray, "clips targets"]
    predictions: Float[np.ndarray, "clips targets"]
    note: str
    facts: Mapping[str, str]
    classes: Mapping[str, ClassScores] = field(default_factory=dict)
    layers: LayerWeights | None = None
    uncertainty: EnsembleFigures | None = None
    remarks: Sequence[str] = ()


def write_report(experiment: Experiment, findings: Findings, folder: Path) -> Path:
    """Draw the plots and write the page.

    Args:
        experiment: whose report it is.
        findings: what it tells.
        folder: where to.

    Returns:
        The folder of the report; its `index.html` opens in a browser, without a server or a network.
    """
    from emonet.evaluation import CLASS_METRICS, METRICS

    folder.mkdir(parents=True, exist_ok=True)
    pictures = _pictures(folder, findings)
    html = render(
        "heads/report.html",
        name=experiment.name,
        description=experiment.description,
        note=findings.note,
        remarks=findings.remarks,
        about={name: text for name, text in ABOUT.items() if name in findings.rows},
        metrics=list(METRICS.values()),
        rows=findings.rows,
        first=next(iter(findings.rows.values())),
        classes=findings.classes,
        first_classes=next(iter(findings.classes.values()), None),
        class_metrics=CLASS_METRICS,
        targets=findings.spec.ids,
        spec=findings.spec,
        confidence=f"{100 * experiment.evaluation.confidence:g}",
        resamples=experiment.evaluation.resamples,
        pictures=pictures,
        layers=findings.layers,
        uncertainty=findings.uncertainty,
        facts=findings.facts,
    )
    write_text(folder / INDEX, html)
    return folder


def _pictures(folder: Path, findings: Findings) -> Sequence[Picture]:
    """The pictures that can be drawn."""
    from emonet.evaluation import (
        class_confusion_figure,
        confusion_figure,
        layers_figure,
        metric_figure,
        scatter_figure,
    )

    spec, rows, shown = findings.spec, findings.rows, (findings.truth, findings.predictions)
    first = next(iter(rows))
    baseline = STATES if STATES in rows else "mel_ridge"
    compared = {first: rows[first]} | ({baseline: rows[baseline]} if baseline in rows else {})
    errors = {label: rows[label] for label in [*compared, "median"] if label in rows}
    drawings: dict[Picture, Callable[[Path], None]] = {
        Picture(
            "Correlation", "pearson.png", "Pearson correlation of predicted and given scores, with intervals."
        ): lambda path: metric_figure(compared, "pearson", path, spec=spec),
        Picture("Error", "mae.png", "Mean absolute error in units of the score, with intervals."): lambda path: (
            metric_figure(errors, "mae", path, spec=spec)
        ),
        Picture(
            "Predicted against given", "scatter.png", "One point per test clip; the line is a perfect prediction."
        ): lambda path: scatter_figure(*shown, spec.ids, path, spec=spec),
        Picture(
            "Strongest emotion", CONFUSION, "Which emotion comes out strongest, for clips that have one."
        ): lambda path: confusion_figure(*shown, spec.ids, path, spec=spec),
    }
    classes = next(iter(findings.classes.values())).classes if findings.classes else {}
    if len(spec.ranked) < 2 or set(spec.ranked) <= set(
        classes
    ):  # there is nothing to confuse, or it is shown as classes
        drawings = {picture: draw for picture, draw in drawings.items() if picture.file != CONFUSION}
    if findings.classes:
        matrix = next(iter(findings.classes.values()))
        told = Picture("Classes", "classes.png", "Which class is predicted (columns) where one was given (rows).")
        drawings[told] = lambda path: class_confusion_figure(matrix, path)
    if (mix := findings.layers) is not None:
        heard = Picture(LAYERS, "layers.png", "How much each expert makes of each layer of the encoder, in per cent.")
        drawings[heard] = lambda path: layers_figure(mix.by_target, mix.layers, path, spec=spec)
    drawn = []
    for picture, draw in drawings.items():
        with decoration(f"the picture {folder / picture.file}"):
            draw(folder / picture.file)
            drawn.append(picture)
    return drawn
