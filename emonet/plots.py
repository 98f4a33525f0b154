"""Pictures of scores and test figures; each function draws one and writes it, by default as PNG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emonet.evaluation import METRICS, MetricName, Scores
from emonet.targets import EMOTIONS, TargetSpec

INK, ACCENT, FAINT, GRID = "#22262e", "#c8452d", "#9aa3af", "#e5e7eb"
COLOURS = (ACCENT, "#3a6ea5", "#6b8f47", "#8a5aa8", FAINT)
DPI = 130
SCATTERED = 12  # emotions in a scatter grid; more are too small to read


def scores_figure(
    predictions: Mapping[str, Mapping[str, float]], path: Path, *, top: int = 10, spec: TargetSpec = EMOTIONS
) -> None:
    """Bars of the `top` strongest emotions of each recording.

    Args:
        predictions: recording -> target id -> score, strongest first.
        path: of the PNG file.
        top: bars per recording (count).
        spec: names and ranges of the targets.
    """
    rows = max(1, len(predictions))
    figure = Figure(figsize=(7, max(2.2, 0.28 * top + 0.9) * rows), dpi=DPI, layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, 1))
    for axis, (name, scores) in zip(axes, predictions.items(), strict=False):
        strongest = list(scores.items())[:top][::-1]
        axis.barh([spec[target].name for target, _ in strongest], [score for _, score in strongest], color=ACCENT)
        axis.set_xlim(min(0.0, *(score for _, score in strongest)), max(spec[t].high for t, _ in strongest))
        axis.set_title(name, loc="left", fontsize=9, color=INK, parse_math=False)  # names of files may hold a $
        bare(axis)
    axes[-1].set_xlabel("score (0 not at all, 4 extremely)")
    figure.savefig(path)


def metric_figure(rows: Mapping[str, Scores], metric: MetricName, path: Path, *, spec: TargetSpec = EMOTIONS) -> None:
    """One metric by emotion with its intervals, for several models; sorted by the first.

    Args:
        rows: label -> test figures; the first is the one that matters.
        metric: which metric.
        path: of the PNG file.
        spec: names of the targets.
    """
    first = next(iter(rows.values())).of(metric)
    order = sorted(first.per_target, key=lambda target: first.per_target[target].value or 0.0)
    if METRICS[metric].better == "lower":
        order.reverse()
    figure = Figure(figsize=(7.5, 0.26 * (len(order) + 1) + 1.2), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    for position, (label, scores) in enumerate(rows.items()):
        estimates = [*(scores.of(metric).per_target[target] for target in order), scores.of(metric).mean]
        shown = [(height, e) for height, e in enumerate(estimates) if e.value is not None]
        heights = [height + 0.16 * (len(rows) - 1 - 2 * position) / 2 for height, _ in shown]
        values = np.array([e.value for _, e in shown], float)
        low = np.array([e.value if e.low is None else e.low for _, e in shown], float)
        high = np.array([e.value if e.high is None else e.high for _, e in shown], float)
        spread = np.abs(np.stack((values - low, high - values)))
        axis.errorbar(
            values,
            heights,
            xerr=spread,
            fmt="o",
            markersize=4,
            linewidth=1.2,
            color=COLOURS[position],
            label=label,
        )
    axis.set_yticks(range(len(order) + 1), [*(spec[target].name for target in order), "MEAN"])
    axis.set_ylim(-0.8, len(order) + 0.6)
    axis.axhline(len(order) - 0.5, color=FAINT, linewidth=0.8)
    axis.set_xlabel(f"{METRICS[metric].label} on unseen speakers ({METRICS[metric].better} is better)")
    figure.legend(loc="outside upper right", ncols=len(rows), fontsize=8, frameon=False)
    bare(axis)
    axis.grid(axis="x", color=GRID)
    figure.savefig(path)


def scatter_figure(
    truth: Float[np.ndarray, "clips targets"],
    predictions: Float[np.ndarray, "clips targets"],
    targets: Sequence[str],
    path: Path | BytesIO,
    *,
    spec: TargetSpec = EMOTIONS,
) -> None:
    """Predicted against given scores, one panel for each of the targets with the widest spread of given scores."""
    rated = [column for column in range(len(targets)) if not np.isnan(truth[:, column]).all()]
    shown = sorted(rated, key=lambda column: -float(np.nanstd(truth[:, column])))[:SCATTERED]
    columns = min(4, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(2.3 * columns, 2.3 * rows), dpi=DPI, layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns, sharex=True, sharey=True)).ravel()
    jitter = np.random.default_rng(0).uniform(-0.08, 0.08, len(truth))  # acted scores lie on few values
    for axis, column in zip(axes, shown, strict=False):
        target = spec[targets[column]]
        axis.plot([target.low, target.high], [target.low, target.high], color=FAINT, linewidth=0.8)
        points = {"s": 5, "alpha": 0.5, "color": ACCENT, "linewidths": 0, "rasterized": True}
        axis.scatter(truth[:, column] + jitter, predictions[:, column], **points)
        axis.set_title(plain(target.name), fontsize=8, color=INK)
        bare(axis)
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    figure.supxlabel("given score", fontsize=9, color=INK)
    figure.supylabel("predicted score", fontsize=9, color=INK)
    figure.savefig(path)


def confusion_figure(
    truth: Float[np.ndarray, "clips targets"],
    predictions: Float[np.ndarray, "clips targets"],
    targets: Sequence[str],
    path: Path | BytesIO,
    *,
    spec: TargetSpec = EMOTIONS,
) -> None:
    """How often a clip whose strongest given emotion is the row has the column as its strongest predicted one.

    Clips without any emotion above 0 are left out. Rows are shares that add up to 1.
    """
    given = np.nan_to_num(truth, nan=-1.0)
    emotional = given.max(1) > 0
    counts = np.zeros((len(targets), len(targets)))
    np.add.at(counts, (given[emotional].argmax(1), predictions[emotional].argmax(1)), 1)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    size = max(3.4, 0.2 * len(targets) + 1.8)
    figure = Figure(figsize=(size + 0.6, size), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(shares, cmap="Reds", vmin=0, vmax=1)
    names = [plain(spec[target].id) for target in targets]
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axis.set_yticks(range(len(names)), names, fontsize=7)
    axis.set_xlabel("strongest predicted", color=INK)
    axis.set_ylabel("strongest given", color=INK)
    axis.tick_params(colors=INK)
    bar = figure.colorbar(image, ax=axis, shrink=0.7)
    bar.set_label("share of clips", color=INK)
    bar.ax.tick_params(colors=INK)
    figure.savefig(path)


def plain(text: str) -> str:
    """Text that matplotlib draws as it is, although a pair of dollar signs would be mathematics."""
    return text.replace("$", r"\$")


def bare(axis: Axes | Any) -> None:
    """Leave only the spines and ticks that say something."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(INK)
    axis.tick_params(labelsize=8, colors=INK)
