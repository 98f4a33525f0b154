"""Pictures of EmoBox: an encoder among its ten, UA by epoch, and corpora against corpora as a heat map."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from emonet.evaluation import ACCENT, COLOURS, DPI, FAINT, GRID, INK, Estimate, bare, labelled
from emonet.protocols.emobox.training import Selection, TrainedFold
from emonet.protocols.tables import Cell, ProtocolTable

_KINDS = {"measured": ACCENT, "published": "#3a6ea5", "optimistic": FAINT}


def rank_figure(table: ProtocolTable, path: Path | BytesIO) -> None:
    """UA of each encoder with its interval: red what was measured, blue what was published, grey what is too good.

    Args:
        table: what `ranked` or `emobox_rank` gives.
        path: of the PNG file.
    """
    rows = [row for row in table.rows if _number(row.cells.get("ua")) is not None][::-1]
    figure = Figure(figsize=(7.5, 0.34 * len(rows) + 1.0), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    for height, row in enumerate(rows):
        cell = row.cells["ua"]
        value = _number(cell) or 0.0
        low, high = _ends(cell, value)
        axis.errorbar(
            value,
            height,
            xerr=[[max(0.0, value - low)], [max(0.0, high - value)]],
            fmt="o",
            color=_KINDS[row.kind],
        )
    axis.set_yticks(range(len(rows)), [labelled(str(row.cells["model"]), 60) for row in rows])
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.set_xlabel("UA (%); blue: as EmoBox published it, grey: chosen on test clips", fontsize=8, color=INK)
    axis.grid(axis="x", color=GRID)
    bare(axis)
    figure.savefig(path)


def epochs_figure(runs: Sequence[TrainedFold], path: Path | BytesIO) -> None:
    """UA by epoch, mean over folds: on validation clips, on test clips, and the best of each fold on either.

    Args:
        runs: what `train_folds` gives.
        path: of the PNG file.
    """
    figure = Figure(figsize=(6.5, 3.4), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    epochs = np.arange(1, len(runs[0].losses) + 1)
    for label, colour, curves in (
        ("validation clips", COLOURS[1], [run.validation_ua for run in runs]),
        ("test clips", ACCENT, [run.test_ua for run in runs]),
    ):
        axis.plot(epochs, 100 * np.mean(np.stack(curves), 0), color=colour, label=label)
    choices: tuple[tuple[str, str, Selection], ...] = (
        ("chosen on validation", COLOURS[1], "validation"),
        ("chosen on test", FAINT, "test"),
    )
    for label, colour, by in choices:
        chosen = [run.epoch(by) for run in runs]
        values = [100 * run.test_ua[epoch] for run, epoch in zip(runs, chosen, strict=True)]
        axis.plot(np.array(chosen) + 1, values, "o", color=colour, markersize=4, label=f"a fold's test UA, {label}")
    axis.set_xlabel("epoch", fontsize=8, color=INK)
    axis.set_ylabel("UA (%)", fontsize=8, color=INK)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(fontsize=7, frameon=False)
    axis.grid(color=GRID)
    bare(axis)
    figure.savefig(path)


def cross_corpus_figure(table: ProtocolTable, path: Path | BytesIO) -> None:
    """UA as a heat map: trained on the row, tested on the column; a corpus is not tested on itself.

    Args:
        table: what `cross_corpus_table` gives.
        path: of the PNG file.
    """
    rows = [row for row in table.rows if row.kind != "optimistic"]
    names = list(dict.fromkeys(str(row.cells[end]) for end in ("trained", "tested") for row in rows))
    values = np.full((len(names), len(names)), np.nan)
    for row in rows:
        value = _number(row.cells.get("ua"))
        place = names.index(str(row.cells["trained"])), names.index(str(row.cells["tested"]))
        values[place] = np.nan if value is None else value
    size = max(3.4, 0.55 * len(names) + 1.8)
    figure = Figure(figsize=(size + 0.7, size), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    axis.set_facecolor("#eceef1")
    image = axis.imshow(values, cmap="Reds", vmin=0, vmax=100)
    shown = [labelled(name, 20) for name in names]
    axis.set_xticks(range(len(names)), shown, rotation=90, fontsize=7)
    axis.set_yticks(range(len(names)), shown, fontsize=7)
    axis.set_xlabel("tested on", fontsize=8, color=INK)
    axis.set_ylabel("trained on", fontsize=8, color=INK)
    for (line, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if value > 60 else INK
            axis.text(column, line, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour)
    bar = figure.colorbar(image, ax=axis, shrink=0.7)
    bar.set_label("UA (%)", color=INK, fontsize=8)
    bar.ax.tick_params(colors=INK, labelsize=7)
    figure.savefig(path)


def _number(cell: Cell) -> float | None:
    value = cell.value if isinstance(cell, Estimate) else cell
    return float(value) if isinstance(value, int | float) else None


def _ends(cell: Cell, value: float) -> tuple[float, float]:
    if not isinstance(cell, Estimate):
        return value, value
    return (value if cell.low is None else cell.low), (value if cell.high is None else cell.high)
