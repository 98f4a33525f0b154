"""The frontier as a picture: bytes of a clip against the speed of reading random batches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from emonet.evaluation import ACCENT, COLOURS, DPI, FAINT, INK

LINE = 9.0  # points from one label to the next


@dataclass(frozen=True)
class Point:
    """One format.

    Args:
        name: its label.
        size: bytes per clip.
        rate: clips/s of random batches.
        ours: whether it is the feature store.
        exact: whether it gives back every bit.
    """

    name: str
    size: float
    rate: float
    ours: bool
    exact: bool


def frontier_figure(sets: Mapping[str, Sequence[Point]], path: Path) -> None:
    """One panel for each set of states; formats that lose bits are hollow, ours red.

    Args:
        sets: title -> formats.
        path: of the PNG file.
    """
    figure = Figure(figsize=(5.6 * len(sets), 4.6), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, len(sets), squeeze=False)[0]
    for axis, (title, points) in zip(panels, sets.items(), strict=True):
        axis.set_xscale("log")
        axis.set_yscale("log")
        for point in points:
            filled = "full" if point.exact else "none"
            axis.plot(point.size, point.rate, "o", color=_colour(point), fillstyle=filled, markersize=6)
        axis.set_title(title, loc="left", fontsize=9, color=INK)
        axis.set_xlabel("bytes per clip (left is better)", fontsize=8)
        axis.set_ylabel("random clips/s, files in memory (up is better)", fontsize=8)
        sizes = [point.size for point in points]
        axis.set_xlim(min(sizes) / 4, max(sizes) * 2.5)  # room for labels
        axis.margins(y=0.1)
        for ticks, unit in ((axis.xaxis, "B"), (axis.yaxis, "")):
            ticks.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ticks.set_major_formatter(EngFormatter(unit))
            ticks.set_minor_formatter(NullFormatter())
        axis.grid(color="#e5e7eb", which="major")
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8, colors=INK, which="both")
    figure.supxlabel("red: emonet; hollow: loses bits", fontsize=8, color=FAINT)
    figure.draw_without_rendering()  # labels are placed where the points have come to lie
    for axis, points in zip(panels, sets.values(), strict=True):
        _label(axis, points)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _label(axis: Axes, points: Sequence[Point]) -> None:
    """Names beside the points: right of what is not compressed, left of the rest, moved apart where they overlap."""
    whole = 0.95 * max(point.size for point in points)
    for right in (False, True):
        lowest = -math.inf
        for point in sorted((p for p in points if (p.size > whole) == right), key=lambda point: point.rate):
            height = float(axis.transData.transform((point.size, point.rate))[1]) * 72 / DPI
            lowest = max(height, lowest + LINE)
            axis.annotate(
                point.name,
                (point.size, point.rate),
                xytext=(12 if right else -12, lowest - height),
                textcoords="offset points",
                fontsize=7,
                color=_colour(point),
                ha="left" if right else "right",
                va="center",
                arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3},
            )


def _colour(point: Point) -> str:
    return ACCENT if point.ours else COLOURS[1]
