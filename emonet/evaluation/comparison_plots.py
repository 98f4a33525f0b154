"""Plots of a comparison, and how a page carries them within itself, light or dark."""

from __future__ import annotations

import base64
import math
import re
import warnings
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from emonet.evaluation.calibration_bins import Reliability
from emonet.evaluation.comparison import PairwiseDifference
from emonet.evaluation.plots import ACCENT, DPI, FAINT, GRID, INK, bare, labelled, shortened
from emonet.evaluation.results import Estimate
from emonet.numbers import shown
from emonet.targets import EMOTIONS, TargetSpec

DARK = {INK: "#e6e8eb", GRID: "#363c47", ACCENT: "#ee7a64"}  # what takes a colour's place on a dark page
_PANELS = 3  # side by side


def differences_figure(
    pair: PairwiseDifference, path: Path | BytesIO, *, alpha: float = 0.05, spec: TargetSpec = EMOTIONS
) -> None:
    """Difference of the MAE of two models by target with its interval, sorted; the mean on top.

    Filled marks: p is at most `alpha` after Holm's correction over targets.

    Args:
        pair: the two models.
        path: where to, in the format of its suffix.
        alpha: largest p value that counts (0 to 1).
        spec: names of the targets.
    """
    significant = set(pair.significant(alpha))
    rows = [(spec[target].name, each.mae, target in significant) for target, each in pair.emotions.items()]
    rows = sorted((row for row in rows if row[1].value is not None), key=lambda row: -(row[1].value or 0.0))
    rows.append(("MEAN", pair.mean["mae"], pair.is_significant(alpha)))
    figure = Figure(figsize=(7.5, 0.22 * len(rows) + 1.4), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    for height, (_, estimate, told) in enumerate(rows):
        _interval(axis, estimate, height, told)
    axis.set_yticks(range(len(rows)), [labelled(name) for name, _, _ in rows])
    axis.set_ylim(-0.8, len(rows) - 0.2)
    axis.axvline(0, color=INK, linewidth=0.8)
    axis.axhline(len(rows) - 1.5, color=FAINT, linewidth=0.8)
    axis.grid(axis="x", color=GRID)
    axis.set_axisbelow(True)
    axis.set_xlabel("difference of MAE", color=INK, fontsize=9)
    axis.set_title(f"← {shortened(pair.one)} is better", loc="left", fontsize=9, color=INK, parse_math=False)
    axis.set_title(f"{shortened(pair.other)} is better →", loc="right", fontsize=9, color=INK, parse_math=False)
    bare(axis)
    figure.savefig(path)


def calibration_figure(rows: Mapping[str, Reliability], path: Path | BytesIO, *, scale: tuple[float, float]) -> None:
    """Mean given score by predicted score, one panel per model; the larger a mark, the more scores are behind it.

    Args:
        rows: label -> given by predicted scores.
        path: where to, in the format of its suffix.
        scale: lowest and highest score.
    """
    columns = min(_PANELS, max(1, len(rows)))
    lines = max(1, math.ceil(len(rows) / columns))
    figure = Figure(figsize=(2.6 * columns, 2.8 * lines), dpi=DPI, layout="constrained")
    axes = np.atleast_1d(figure.subplots(lines, columns, sharex=True, sharey=True)).ravel()
    for axis, (label, found) in zip(axes, rows.items(), strict=False):
        axis.plot(scale, scale, color=FAINT, linewidth=0.8)
        predicted = [each.predicted for each in found.bins]
        given = [each.given for each in found.bins]
        counts = np.array([each.count for each in found.bins], float)
        axis.plot(predicted, given, color=ACCENT, linewidth=1)
        axis.scatter(predicted, given, s=6 + 90 * np.sqrt(counts / max(counts.sum(), 1)), color=ACCENT, linewidths=0)
        line = (
            ""
            if found.slope is None
            else f"\nslope {shown(found.slope, 2)}, intercept {shown(found.intercept, 2, signed=True)}"
        )
        axis.set_title(shortened(label, 26) + line, fontsize=8, color=INK, parse_math=False)
        axis.grid(color=GRID)
        axis.set_axisbelow(True)
        bare(axis)
    for axis in axes[len(rows) :]:
        axis.set_visible(False)
    figure.supxlabel("predicted score", fontsize=9, color=INK)
    figure.supylabel("mean given score", fontsize=9, color=INK)
    figure.savefig(path)


def embedded(draw: Callable[[BytesIO], None]) -> str:
    """A figure as a `data:` URI of an SVG: text stays text, and its colours follow the reader's light or dark mode.

    Args:
        draw: writes the figure into what it is handed.
    """
    buffer = BytesIO()
    with (
        # Text stays text; ids are the same each time.
        rc_context(
            {
                "savefig.format": "svg",
                "savefig.transparent": True,
                "svg.fonttype": "none",
                "svg.hashsalt": "emonet",
            }
        ),
        warnings.catch_warnings(),
    ):
        # The browser draws the text, with fonts of its own; matplotlib only measures it.
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)
        draw(buffer)
    text = _adaptive(buffer.getvalue().decode())
    return "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode()


def _interval(axis: object, estimate: Estimate, height: int, told: bool) -> None:
    value, low, high = estimate.value, estimate.low, estimate.high
    if value is None:
        return
    colour = ACCENT if told else FAINT
    if low is not None and high is not None:
        axis.plot([low, high], [height, height], color=colour, linewidth=1.4)  # type: ignore[attr-defined]
    face = colour if told else "none"
    axis.plot([value], [height], "o", markersize=5, markeredgecolor=colour, markerfacecolor=face)  # type: ignore[attr-defined]


def _adaptive(svg: str) -> str:
    """The SVG with colours as variables, set by the reader's preference."""
    light = "".join(f"--c{number}:{colour};" for number, colour in enumerate(DARK))
    dark = "".join(f"--c{number}:{colour};" for number, colour in enumerate(DARK.values()))
    style = f"<style>:root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}</style>"
    for number, colour in enumerate(DARK):
        svg = svg.replace(colour, f"var(--c{number})")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, count=1, flags=re.DOTALL)  # the date: same figure, same bytes
    return svg.replace("<defs>", style + "<defs>", 1)
