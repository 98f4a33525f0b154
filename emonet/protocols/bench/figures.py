"""Pictures of EmoNet-Voice: agreement as stacked bars, Table 6 as a heat map, agreement or arousal against figures."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from emonet.evaluation import ACCENT, DPI, FAINT, INK, Estimate, bare, labelled
from emonet.numbers import shown
from emonet.protocols.bench.raters import KINDS
from emonet.protocols.tables import ProtocolTable

_KINDS = ("#8f2d1f", "#c8452d", "#e39a8b", "#d8dce2", "#9fb6cf", "#3a6ea5")  # present red, absent blue
_NAMED = 60  # points of a scatter picture that have room for their names


def figure1_figure(table: ProtocolTable, path: Path | BytesIO) -> None:
    """Stacked bars of agreement by emotion.

    Args:
        table: what `figure1` gives.
        path: of the PNG file.
    """
    names = [labelled(str(row.cells["emotion"])) for row in table.rows]
    figure = Figure(figsize=(8, 0.22 * len(names) + 1.3), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    left = np.zeros(len(names))
    for kind, colour in zip(KINDS, _KINDS, strict=True):
        widths = np.array([_number(row.cells.get(kind.name)) for row in table.rows])
        axis.barh(range(len(names)), np.nan_to_num(widths), left=left, color=colour, label=kind.label)
        left += np.nan_to_num(widths)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_xlim(0, 100)
    axis.set_xlabel("of the emotion's clips with two ratings or more (%)", fontsize=8, color=INK)
    figure.legend(loc="outside upper left", ncols=3, fontsize=8, frameon=False)
    bare(axis)
    figure.savefig(path)


def table6_figure(table: ProtocolTable, path: Path | BytesIO) -> None:
    """Table 6 as a heat map: emotions down, models across, grey where a model has no figure.

    Args:
        table: what `table6` gives, or the published one.
        path: of the PNG file.
    """
    columns = [column for column in table.columns if column.name != "emotion"]
    values = np.array([[_number(row.cells.get(column.name)) for column in columns] for row in table.rows])
    values = values.reshape(len(table.rows), len(columns))
    limit = max(0.05, float(np.nanmax(np.abs(values)))) if np.isfinite(values).any() else 1.0
    figure = Figure(figsize=(2.6 + 0.9 * len(columns), 0.22 * len(table.rows) + 2.2), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    axis.set_facecolor("#eceef1")
    better = columns[0].better if columns else "higher"
    colours = "RdYlGn" if better != "lower" else "RdYlGn_r"
    axis.imshow(np.ma.masked_invalid(values), cmap=colours, vmin=-limit, vmax=limit, aspect="auto", alpha=0.8)
    for (row, column), value in np.ndenumerate(values):
        text = shown(float(value), columns[column].digits) if np.isfinite(value) else shown(None)
        axis.text(column, row, text, ha="center", va="center", fontsize=6, color=INK)
    axis.set_xticks(range(len(columns)), [labelled(one.label) for one in columns], rotation=30, ha="left", fontsize=7)
    axis.xaxis.tick_top()
    axis.set_yticks(range(len(table.rows)), [labelled(str(row.cells["emotion"])) for row in table.rows], fontsize=7)
    axis.tick_params(colors=INK, length=0)
    axis.spines[:].set_visible(False)
    figure.savefig(path)


def against_figure(points: Mapping[str, tuple[float, float]], path: Path | BytesIO, *, x: str, y: str) -> None:
    """A dot for each emotion, with its name, and the line of least squares.

    Args:
        points: emotion -> value across and figure up, as `emotion_points` gives them.
        path: of the PNG file.
        x: what is across.
        y: what is up.
    """
    figure = Figure(figsize=(7, 5.5), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    across, up = np.array(list(points.values()), np.float64).reshape(-1, 2).T
    if len(points) > 2 and np.ptp(across) > 0:
        slope, start = np.polyfit(across, up, 1)
        ends = np.array([across.min(), across.max()])
        correlation = float(np.corrcoef(across, up)[0, 1]) if np.ptp(up) > 0 else 0.0
        axis.plot(ends, slope * ends + start, color=FAINT, linewidth=1)
        axis.set_title(f"r = {shown(correlation, 2)}, {len(points)} emotions", loc="left", fontsize=9, color=INK)
    axis.plot(across, up, "o", color=ACCENT, markersize=4)
    for name, place in points.items() if len(points) <= _NAMED else ():
        axis.annotate(labelled(name), place, (3, 2), textcoords="offset points", fontsize=6, color=INK)
    axis.set_xlabel(x, fontsize=9, color=INK)
    axis.set_ylabel(y, fontsize=9, color=INK)
    bare(axis)
    figure.savefig(path)


def _number(cell: object) -> float:
    value = cell.value if isinstance(cell, Estimate) else cell
    return float(value) if isinstance(value, int | float) else float("nan")
