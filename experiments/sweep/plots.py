"""Pictures of a study: its history, what matters, every trial's settings; each is written as PNG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from emonet.evaluation import ACCENT, DPI, FAINT, INK, bare
from experiments.core import HIGHER, Dimension, Objective
from experiments.sweep.records import Plan, TrialRecord

HISTORY, IMPORTANCE, PARALLEL, SLICES = "history.png", "importance.png", "parallel_coordinates.png", "slices.png"
_COLOURS = "viridis"


def study_figures(
    plan: Plan, records: Sequence[TrialRecord], importance: Mapping[str, float], folder: Path
) -> list[Path]:
    """Draw what there is to draw.

    Args:
        plan: of the study.
        records: its trials.
        importance: dotted path -> how much it tells the best tenth of the trials from the rest (share).
        folder: gets the files.

    Returns:
        The files; none where no trial is complete.
    """
    complete = [record for record in records if record.state == "complete"]
    if not complete:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    _history(plan, records, folder / HISTORY)
    _parallel(plan, complete, folder / PARALLEL)
    _slices(plan, complete, folder / SLICES)
    drawn = [folder / name for name in (HISTORY, PARALLEL, SLICES)]
    if importance:
        _importance(plan, importance, folder / IMPORTANCE)
        drawn.append(folder / IMPORTANCE)
    return drawn


def _history(plan: Plan, records: Sequence[TrialRecord], path: Path) -> None:
    """Every trial's first objective in the order of the trials, the best so far as a line, pruned ones in grey."""
    aim = plan.config.aims[0]
    figure = Figure(figsize=(7.5, 3.8), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    complete = [record for record in records if record.state == "complete"]
    numbers = [record.number for record in complete]
    values = [record.values[aim] for record in complete]
    pruned = [record for record in records if record.state == "pruned" and record.curve]
    if pruned and plan.prunes:
        ends = [record.curve[-1] for record in pruned]
        axis.scatter([one.number for one in pruned], ends, s=14, color=FAINT, label="pruned, when it was stopped")
    axis.scatter(numbers, values, s=18, color=INK, label="complete")
    best = (np.maximum if aim in HIGHER else np.minimum).accumulate(values)
    axis.step(numbers, best, where="post", color=ACCENT, linewidth=1.4, label="best so far")
    _without_outliers(axis, values, aim)
    axis.set_xlabel("trial")
    axis.set_ylabel(_label(plan))
    figure.legend(loc="outside upper right", ncols=3, fontsize=8, frameon=False)
    bare(axis)
    figure.savefig(path)


def _importance(plan: Plan, importance: Mapping[str, float], path: Path) -> None:
    rows = sorted(importance.items(), key=lambda row: row[1])
    figure = Figure(figsize=(7.5, 0.32 * len(rows) + 1.1), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    axis.barh([name for name, _ in rows], [share for _, share in rows], color=ACCENT)
    axis.set_xlabel(f"share of what tells the best tenth by {_label(plan)} from the rest (PED-ANOVA)")
    bare(axis)
    figure.savefig(path)


def _parallel(plan: Plan, complete: Sequence[TrialRecord], path: Path) -> None:
    """A line per trial through its settings, coloured by its first objective; absent settings leave a gap."""
    aim, paths = plan.config.aims[0], list(plan.space)
    figure = Figure(figsize=(max(6.0, 1.35 * len(paths) + 1.6), 4.4), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    values = [record.values[aim] for record in complete]
    # Not the worst tenth: one diverged trial would leave one colour for all the others.
    ends = np.quantile(values, (0.1, 1.0) if aim in HIGHER else (0.0, 0.9))
    colours = colormaps[_COLOURS if aim in HIGHER else f"{_COLOURS}_r"]
    scale = ScalarMappable(Normalize(*ends), colours)
    for record in sorted(complete, key=lambda one: one.values[aim], reverse=aim not in HIGHER):
        heights = [_height(plan.space[path], record.params.get(path)) for path in paths]
        axis.plot(
            heights,
            color=colours(float(np.interp(record.values[aim], ends, (0, 1)))),
            linewidth=1.1,
            alpha=0.75,
            marker="o",
            markersize=3,
        )
    for position, name in enumerate(paths):
        axis.axvline(position, color=FAINT, linewidth=0.6, zorder=0)
        for height, text in _ticks(plan.space[name]):
            axis.annotate(text, (position, height), (3, 2), textcoords="offset points", fontsize=6, color=INK)
    axis.set_xticks(range(len(paths)), [name.partition(".")[2] for name in paths], rotation=20, ha="right", fontsize=8)
    axis.set_yticks([])
    axis.spines[["top", "right", "left", "bottom"]].set_visible(False)
    figure.colorbar(scale, ax=axis, shrink=0.8, label=_label(plan), extend="min" if aim in HIGHER else "max")
    figure.savefig(path)


def _slices(plan: Plan, complete: Sequence[TrialRecord], path: Path) -> None:
    """The first objective against every setting on its own, later trials darker."""
    aim, paths = plan.config.aims[0], list(plan.space)
    columns = min(4, len(paths))
    rows = math.ceil(len(paths) / columns)
    figure = Figure(figsize=(2.5 * columns, 2.3 * rows + 0.4), dpi=DPI, layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns, sharey=True)).ravel()
    last = max(record.number for record in complete) or 1
    for axis, name in zip(axes, paths, strict=False):
        shown = [record for record in complete if name in record.params]
        axis.scatter(
            [_height(plan.space[name], record.params[name]) for record in shown],
            [record.values[aim] for record in shown],
            c=[record.number / last for record in shown],
            cmap="Reds",
            vmin=-0.4,
            vmax=1,
            s=12,
        )
        ticks = _ticks(plan.space[name])
        axis.set_xticks([height for height, _ in ticks], [text for _, text in ticks], rotation=30, ha="right")
        axis.set_xlim(-0.08, 1.08)
        axis.set_title(name.partition(".")[2], fontsize=8, color=INK)
        bare(axis)
        axis.tick_params(labelsize=6)
    _without_outliers(axes[0], [record.values[aim] for record in complete], aim)
    for axis in axes[len(paths) :]:
        axis.set_visible(False)
    figure.supylabel(_label(plan), fontsize=9)
    figure.savefig(path)


def _without_outliers(axis: Axes, values: Sequence[float], aim: Objective) -> None:
    """Let the axis end where most trials are: a diverged one would press all others onto a line."""
    signed = np.asarray(values) * (-1 if aim in HIGHER else 1)
    best, most = np.quantile(signed, (0.0, 0.9))
    end = most + 2 * (most - best)
    beyond = int((signed > end).sum())
    if beyond:
        low, high = sorted((best - 0.05 * (end - best), end)) if aim not in HIGHER else sorted((-end, -best))
        axis.set_ylim(low, high)
        axis.annotate(f"{beyond} worse, beyond the axis", (1, 1), (0, 2), xycoords="axes fraction",
                      textcoords="offset points", ha="right", fontsize=6, color=INK)  # fmt: skip


def _height(dimension: Dimension, value: Any) -> float:
    """Where a value stands between the ends of its dimension (0 to 1); NaN where the trial has none."""
    if dimension.choices:
        places = [index for index, choice in enumerate(dimension.choices) if choice == value]
        return places[0] / max(1, len(dimension.choices) - 1) if places else math.nan
    if value is None:
        return math.nan
    low, high = float(dimension.low or 0), float(dimension.high or 0)
    if dimension.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return float((value - low) / (high - low))


def _ticks(dimension: Dimension) -> list[tuple[float, str]]:
    if dimension.choices:
        return [(_height(dimension, choice), _text(choice)) for choice in dimension.choices]
    return [(0.0, _text(dimension.low)), (1.0, _text(dimension.high))]


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "-".join(_text(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _label(plan: Plan) -> str:
    names = {"mae": "validation MAE", "pearson": "validation Pearson", "loss": "validation loss (nats per token)"}
    aim = plan.config.aims[0]
    return names.get(aim, aim)
