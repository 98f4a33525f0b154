"""Page of a plan: a picture of the hours of each stage by its parts, the figures, and what is taken for granted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from experiments.core import render
from experiments.plan.words import size, taken

if TYPE_CHECKING:
    from experiments.plan.stages import StagePlan
    from experiments.plan.verb import PlanResult

WIDTH, ROW, BAR, LEFT = 760.0, 22.0, 15.0, 170.0  # of the picture (pixels)
ROOM = 110.0  # for a figure at the end of a bar


@dataclass(frozen=True)
class Bar:
    """One part of a stage.

    Args:
        label: what is written before it.
        figure: and behind it.
        top: its place from above (pixels).
        length: of the bar (pixels).
        waits: whether the stage waits for this part.
        first: whether it is the stage's first one.
    """

    label: str
    figure: str
    top: float
    length: float
    waits: bool
    first: bool


def bars(stages: tuple[StagePlan, ...]) -> list[Bar]:
    """A bar for each part of each stage but a sweep, beside which the others would be too short to be seen."""
    stages = tuple(stage for stage in stages if stage.stage != "sweep")
    longest = max(max(stage.parts.values()) for stage in stages) or 1.0
    found: list[Bar] = []
    for stage in stages:
        for number, (part, hours) in enumerate(stage.parts.items()):
            length = (WIDTH - LEFT - ROOM) * hours / longest
            label = f"{stage.stage}: {part}" if number == 0 else part
            found.append(Bar(label, taken(hours), 0.0, length, part == stage.bottleneck, number == 0))
    gap, top, placed = ROW / 2, 0.0, list[Bar]()
    for bar in found:
        top += gap if bar.first and placed else 0.0
        placed.append(Bar(bar.label, bar.figure, top, bar.length, bar.waits, bar.first))
        top += ROW
    return placed


def draw(result: PlanResult) -> str:
    """The page."""
    drawn = bars(result.stages)
    return render(
        "plan/plan.html", result=result, bars=drawn, width=WIDTH, left=LEFT, bar=BAR, height=drawn[-1].top + ROW,
        taken=taken, size=size,
    )  # fmt: skip
