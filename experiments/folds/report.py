"""The page of an evaluation over folds, with a picture of each fold's figures: `runs/EXPERIMENT/folds/report/`."""

from __future__ import annotations

from pathlib import Path

from emonet.clips import SPLITS
from emonet.evaluation import METRICS
from experiments.core import INDEX, Experiment, decoration, render, write_text
from experiments.folds.results import CLASS_FIGURES, FoldsResult

LABELS = CLASS_FIGURES | {name: metric.label for name, metric in METRICS.items()}
_DRAWN = ("ua", "pearson", "mae")


def write_report(experiment: Experiment, result: FoldsResult, note: str, folder: Path) -> Path:
    """Draw the pictures and write the page.

    Args:
        experiment: whose report it is.
        result: what it tells.
        note: what the corpus says of itself.
        folder: where to.

    Returns:
        The folder of the report; its `index.html` opens in a browser, without a server or a network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [name for name in LABELS if any(figures.of(name) for figures in result.rows.values())]
    html = render(
        "folds/report.html",
        name=experiment.name,
        result=result,
        note=note,
        splits=SPLITS,
        labels={name: LABELS[name] for name in names},
        lower=[name for name, metric in METRICS.items() if metric.better == "lower"],
        confidence=f"{100 * experiment.evaluation.confidence:g}",
        pictures={LABELS[name]: _picture(result, name, folder) for name in _DRAWN if name in names},
    )
    write_text(folder / INDEX, html)
    return folder


def _picture(result: FoldsResult, name: str, folder: Path) -> str:
    """The picture's file beside the page."""
    from emonet.evaluation import folds_figure

    path = folder / f"{name}.png"
    rows = {label: one for label, figures in result.rows.items() if (one := figures.of(name)) is not None}
    with decoration(f"the picture {path}"):
        folds_figure(rows, LABELS[name], path)
    return path.name
