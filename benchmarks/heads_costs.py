"""What training costs, against the number of clips: the picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from emonet.evaluation import ACCENT, COLOURS, DPI, INK

NEAR = 1.4  # times as long: closer lines end at nearly the same height
Costs = Mapping[str, Mapping[int, float]]
"""Way of training -> clips -> seconds."""


def cost_figure(costs: Costs, path: Path, *, title: str, ours: str) -> None:
    """One line for each way, both axes logarithmic; `ours` in red.

    Args:
        costs: what to draw.
        path: of the PNG file.
        title: above it.
        ours: the way that stands out.
    """
    figure = Figure(figsize=(6.4, 4.4), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    others = [colour for colour in COLOURS if colour != ACCENT]
    below = 0.0
    for position, (name, points) in enumerate(sorted(costs.items(), key=lambda way: max(way[1].values()))):
        colour = ACCENT if name == ours else others[position % len(others)]
        clips = sorted(points)
        seconds = [points[count] for count in clips]
        axis.plot(clips, seconds, "o-", color=colour, markersize=4)
        lifted = 6 if seconds[-1] < NEAR * below else 0  # points: two names at one height cannot be read
        axis.annotate(
            name,
            (clips[-1], seconds[-1]),
            xytext=(6, lifted),
            textcoords="offset points",
            fontsize=8,
            color=colour,
            va="center",
        )
        below = seconds[-1]
    axis.set_xscale("log")
    axis.set_yscale("log")
    ticks = sorted({clips for points in costs.values() for clips in points})
    axis.set_xticks(ticks, [str(clips) for clips in ticks], minor=False)
    axis.set_xticks([], minor=True)
    axis.set_xlim(ticks[0] * 0.9, ticks[-1] * 2.6)  # room for names
    for mark, words in ((1, "1 s"), (60, "1 min"), (3600, "1 h"), (86400, "1 day")):
        axis.axhline(mark, color="#e5e7eb", zorder=0)
        axis.annotate(words, (ticks[0] * 0.91, mark), fontsize=7, color=INK, va="bottom")
    axis.set_title(title, loc="left", fontsize=9, color=INK)
    axis.set_xlabel("training clips", fontsize=8)
    axis.set_ylabel("seconds (down is better)", fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8, colors=INK)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
