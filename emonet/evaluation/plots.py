"""Plots of scores and test figures; each function draws one and writes it, by default as PNG."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from emonet.evaluation.classification import ClassScores
from emonet.evaluation.fold_figures import FoldEstimate
from emonet.evaluation.results import METRICS, MetricName, Scores
from emonet.names import as_text
from emonet.numbers import shown
from emonet.targets import EMOTIONS, Target, TargetSpec

INK, ACCENT, FAINT, GRID = "#22262e", "#c8452d", "#9aa3af", "#e5e7eb"
COLOURS = (ACCENT, "#3a6ea5", "#6b8f47", "#8a5aa8", FAINT)
DPI = 130
TALLEST = 150.0  # inches of a picture; much taller ones are no images any more
SCATTERED = 12  # emotions in a scatter grid; more are too small to read
_LONGEST = 32  # characters of a name in a plot: class labels and models are called anything
_TITLE = 26  # above a panel
WRITTEN = 12  # rows of a confusion matrix whose cells hold figures; more have no room


def scores_figure(
    predictions: Mapping[str, Mapping[str, float]], path: Path, *, top: int = 10, spec: TargetSpec = EMOTIONS
) -> int:
    """Bars of the `top` strongest scores of each recording, and of all those that have a scale of their own.

    Args:
        predictions: recording -> target id -> score, strongest first.
        path: of the PNG file.
        top: bars per recording (count), beside attributes and quality.
        spec: names and ranges of the targets.

    Returns:
        How many recordings are drawn: the first ones, as many as a picture holds.
    """
    panels: list[tuple[str, list[tuple[Target, float]]]] = []
    drawn, height = 0, 0.0
    for name, scores in predictions.items():
        parts = _parts(scores, top, spec)
        more = sum(_inches(part) for part in parts)
        if panels and height + more > TALLEST:
            break
        drawn, height = drawn + 1, height + more
        panels += [(name, part) for part in parts]
    if not panels:
        _blank("no recording has a score", path)
        return 0
    ratios = [_inches(part) for _, part in panels]
    figure = Figure(figsize=(7, height), dpi=DPI, layout="constrained")
    axes = np.atleast_1d(figure.subplots(len(panels), 1, height_ratios=ratios))
    for axis, (name, part) in zip(axes, panels, strict=True):
        _bars(axis, part)
        axis.set_title(plain(name), loc="left", fontsize=9, color=INK)
    save_figure(figure, path)
    return drawn


def folds_figure(rows: Mapping[str, FoldEstimate], label: str, path: Path) -> None:
    """One metric fold by fold for several models: a dot for each fold, the mean over folds with its interval beside.

    Args:
        rows: label -> figures over folds, in the order of the picture from top to bottom.
        label: of the metric.
        path: of the PNG file.
    """
    shown = [(name, one) for name, one in rows.items() if one.mean is not None][::-1]
    if not shown:
        _blank(f"{label} is undefined in every fold", path)
        return
    figure = Figure(figsize=(7.5, 0.55 * len(shown) + 1.0), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    for height, (_, one) in enumerate(shown):
        mean = float(one.mean or 0.0)
        low, high = (mean if end is None else end for end in (one.low, one.high))
        axis.errorbar(
            mean, height + 0.15, xerr=[[max(0.0, mean - low)], [max(0.0, high - mean)]], fmt="o", color=ACCENT
        )
        values = [value for value in one.per_fold if value is not None]
        axis.plot(values, [height - 0.15] * len(values), "o", color=FAINT, markersize=4, alpha=0.8)
    axis.set_yticks(range(len(shown)), [labelled(name) for name, _ in shown])
    axis.set_ylim(-0.6, len(shown) - 0.4)
    axis.set_xlabel(f"{label}; red: mean over folds and its interval, grey: each fold", fontsize=8, color=INK)
    axis.grid(axis="x", color=GRID)
    bare(axis)
    save_figure(figure, path)


def save_figure(figure: Figure, path: Path | BytesIO) -> None:
    """Write a figure, whatever script its names are in."""
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; there is nothing that the user could do.
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)
        figure.savefig(path)


def _blank(reason: str, path: Path | BytesIO) -> None:
    """A picture that says why there is nothing in it."""
    figure = Figure(figsize=(5, 1.2), dpi=DPI)
    figure.text(0.5, 0.5, f"nothing to draw: {reason}", ha="center", va="center", fontsize=9, color=INK)
    save_figure(figure, path)


def _parts(scores: Mapping[str, float], top: int, spec: TargetSpec) -> list[list[tuple[Target, float]]]:
    """Emotions, and what stands beside them: its scores cannot be ranked among theirs."""
    emotions = [(spec[name], score) for name, score in scores.items() if name in spec.ranked][:top]
    apart = [(spec[name], score) for name, score in scores.items() if name not in spec.ranked]
    return [part for part in (emotions, apart) if part]


def _inches(part: Sequence[object]) -> float:
    """Height of a panel, its title and labels included."""
    return max(1.6, 0.24 * len(part) + 0.9)


def _bars(axis: Axes, part: Sequence[tuple[Target, float]]) -> None:
    """Scores of one scale as they are; of several, each as a share of its own, with the score beside it."""
    rows = list(part)[::-1]
    low, high = min(target.low for target, _ in rows), max(target.high for target, _ in rows)
    common = all((target.low, target.high) == (low, high) for target, _ in rows)
    if common:
        values = [score - low for _, score in rows]
        axis.set_xlim(low + min(0.0, *values, 0.0), max(high, *(score for _, score in rows), high))
        label = f"score ({low:g} not at all, {high:g} extremely)" if low == 0 else f"score ({low:g} to {high:g})"
    else:
        values, low = [(score - target.low) / (target.high - target.low) for target, score in rows], 0.0
        axis.set_xlim(min(0.0, *values, 0.0), 1.25 * max(1.0, *values, 1.0))
        axis.set_xticks([0, 0.5, 1], ["lowest", "middle", "highest"])
        label = "on the scale of each"
        for row, ((target, score), value) in enumerate(zip(rows, values, strict=True)):
            text = f"{shown(score, 2)} ({target.low:g} to {target.high:g})"
            axis.annotate(text, (max(value, 0.0), row), (3, 0), textcoords="offset points", va="center", fontsize=7)
    axis.barh([labelled(target.name) for target, _ in rows], values, left=low, color=ACCENT)
    axis.set_xlabel(label, fontsize=8, color=INK)
    bare(axis)


def metric_figure(rows: Mapping[str, Scores], metric: MetricName, path: Path, *, spec: TargetSpec = EMOTIONS) -> None:
    """One metric by emotion with its intervals, for several models; sorted by the first.

    Args:
        rows: label -> test figures; the first is the one that matters.
        metric: which metric.
        path: of the PNG file.
        spec: names of the targets.
    """
    first = next(iter(rows.values())).of(metric)
    if not first.per_target:
        _blank("there are no targets", path)
        return
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
            color=COLOURS[position % len(COLOURS)],
            label=label,
        )
    axis.set_yticks(range(len(order) + 1), [*(labelled(spec[target].name) for target in order), "MEAN"])
    axis.set_ylim(-0.8, len(order) + 0.6)
    axis.axhline(len(order) - 0.5, color=FAINT, linewidth=0.8)
    axis.set_xlabel(f"{METRICS[metric].label} on unseen speakers ({METRICS[metric].better} is better)")
    figure.legend(loc="outside upper right", ncols=len(rows), fontsize=8, frameon=False)
    bare(axis)
    axis.grid(axis="x", color=GRID)
    save_figure(figure, path)


def scatter_figure(
    truth: Float[np.ndarray, "clips targets"],
    predictions: Float[np.ndarray, "clips targets"],
    targets: Sequence[str],
    path: Path | BytesIO,
    *,
    spec: TargetSpec = EMOTIONS,
) -> None:
    """Predicted against given scores, a panel for each of the targets whose given scores vary most on their scale."""
    rated = [column for column in range(len(targets)) if not np.isnan(truth[:, column]).all()]
    ranges = [spec[target].high - spec[target].low for target in targets]
    drawn = sorted(rated, key=lambda column: -float(np.nanstd(truth[:, column])) / ranges[column])[:SCATTERED]
    if not drawn:
        _blank("nobody rated any of these clips", path)
        return
    columns = min(4, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    figure = Figure(figsize=(2.3 * columns, 2.3 * rows), dpi=DPI, layout="constrained")
    common = len({(spec[targets[column]].low, spec[targets[column]].high) for column in drawn}) == 1
    axes = np.atleast_1d(figure.subplots(rows, columns, sharex=common, sharey=common)).ravel()
    jitter = np.random.default_rng(0).uniform(-0.02, 0.02, len(truth))  # of the range: acted scores lie on few values
    for axis, column in zip(axes, drawn, strict=False):
        target = spec[targets[column]]
        axis.plot([target.low, target.high], [target.low, target.high], color=FAINT, linewidth=0.8)
        points = {"s": 5, "alpha": 0.5, "color": ACCENT, "linewidths": 0, "rasterized": True}
        axis.scatter(truth[:, column] + jitter * ranges[column], predictions[:, column], **points)
        axis.set_title(labelled(target.name, _TITLE), fontsize=8, color=INK)
        bare(axis)
    for axis in axes[len(drawn) :]:
        axis.set_visible(False)
    figure.supxlabel("given score", fontsize=9, color=INK)
    figure.supylabel("predicted score", fontsize=9, color=INK)
    save_figure(figure, path)


def confusion_figure(
    truth: Float[np.ndarray, "clips targets"],
    predictions: Float[np.ndarray, "clips targets"],
    targets: Sequence[str],
    path: Path | BytesIO,
    *,
    spec: TargetSpec = EMOTIONS,
) -> None:
    """How often a clip whose strongest given emotion is the row has the column as its strongest predicted one.

    Targets that are no emotions are left out.

    Strongest is what is highest on its own scale. Clips without any emotion above its lowest score are left out. Rows
    are shares that add up to 1.
    """
    columns = [column for column, target in enumerate(targets) if target in spec.ranked]
    if not columns:
        _blank("there are no emotions among the targets", path)
        return
    targets, truth, predictions = [targets[column] for column in columns], truth[:, columns], predictions[:, columns]
    low, high = (np.array([getattr(spec[target], end) for target in targets], float) for end in ("low", "high"))
    given = np.nan_to_num((truth - low) / (high - low), nan=-1.0)
    predictions = (predictions - low) / (high - low)
    emotional = (given > 0).any(1)
    if not emotional.any():
        _blank("no clip was given any emotion", path)
        return
    counts = np.zeros((len(targets), len(targets)))
    np.add.at(counts, (given[emotional].argmax(1), predictions[emotional].argmax(1)), 1)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    _matrix(shares, [labelled(spec[target].id) for target in targets], ("strongest predicted", "strongest given"), path)


def class_confusion_figure(scores: ClassScores, path: Path | BytesIO) -> None:
    """How often a clip of the row's class is predicted to be of the column's; rows are shares that add up to 1."""
    _matrix(
        scores.shares, [labelled(name) for name in scores.classes.values()], ("predicted class", "given class"), path
    )


def layers_figure(
    weights: Mapping[str, Sequence[float]], layers: Sequence[int], path: Path | BytesIO, *, spec: TargetSpec = EMOTIONS
) -> None:
    """How much each target's expert makes of each of the encoder's layers.

    Args:
        weights: target id -> weight of each layer; they add up to 1.
        layers: their numbers.
        path: of the PNG file.
        spec: names of the targets.
    """
    shares = np.array(list(weights.values()), float)
    figure = Figure(figsize=(2.6 + 0.42 * len(layers), 0.24 * len(weights) + 1.2), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(shares, cmap="Reds", vmin=0, vmax=max(shares.max(), 2 / len(layers)), aspect="auto")
    axis.set_xticks(range(len(layers)), [str(layer) for layer in layers], fontsize=7)
    axis.set_yticks(range(len(weights)), [labelled(spec[target].name) for target in weights], fontsize=7)
    axis.set_xlabel("layer of the encoder", color=INK)
    axis.tick_params(colors=INK)
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.6 * image.get_clim()[1] else INK
        axis.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=6, color=colour)
    bar = figure.colorbar(image, ax=axis, shrink=0.7, format=PercentFormatter(1))
    bar.set_label("weight", color=INK)
    bar.ax.tick_params(colors=INK)
    save_figure(figure, path)


def _matrix(
    shares: Float[np.ndarray, "rows columns"], names: Sequence[str], axes: tuple[str, str], path: Path | BytesIO
) -> None:
    """A square of shares in per cent, with its figures where there is room for them."""
    written = len(names) <= WRITTEN
    cells, words = (0.42 if written else 0.2) * len(names), 0.07 * max(len(name) for name in names)  # inches
    size = max(3.4, cells + words + 1)
    figure = Figure(figsize=(size + 0.6, size), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(shares, cmap="Reds", vmin=0, vmax=1)
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axis.set_yticks(range(len(names)), names, fontsize=7)
    axis.set_xlabel(axes[0], color=INK)
    axis.set_ylabel(axes[1], color=INK)
    axis.tick_params(colors=INK)
    for (row, column), share in np.ndenumerate(shares if written else np.empty((0, 0))):
        colour = "white" if share > 0.6 else INK
        axis.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=colour)
    bar = figure.colorbar(image, ax=axis, shrink=0.7, format=PercentFormatter(1))
    bar.set_label("of the row's clips", color=INK)
    bar.ax.tick_params(colors=INK)
    save_figure(figure, path)


def plain(text: str) -> str:
    """Text that matplotlib draws as it is: no pair of dollar signs is mathematics, and no byte of a name is lost."""
    return as_text(text).replace("$", r"\$")


def labelled(name: str, longest: int = _LONGEST) -> str:
    """A target's or class' name beside or above what is drawn."""
    return plain(shortened(name, longest))


def shortened(label: str, longest: int = _LONGEST) -> str:
    """A name that fits beside others: its middle is left out where it is longer than so many characters."""
    if len(label) <= longest:
        return label
    head = (longest - 1) // 2
    return f"{label[:head]}…{label[len(label) - (longest - 1 - head) :]}"


def bare(axis: Axes | Any) -> None:
    """Leave only the spines and ticks that say something."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(INK)
    axis.tick_params(labelsize=8, colors=INK)
