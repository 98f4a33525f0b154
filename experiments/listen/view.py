"""The live view in the terminal: emotions as bars with their last minute, level, latency; or a line per hop."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Protocol, Self, final

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from emonet.numbers import clock, shown
from emonet.targets import Target, TargetSpec
from experiments.core import console

if TYPE_CHECKING:
    from emonet.inference import StreamScore

PAST = 60.0  # seconds that the sparklines show
POINTS = 30  # characters of a sparkline, at most
REFRESH = 0.1  # seconds
_SPARKS = "▁▂▃▄▅▆▇█"
_BAR = 20  # characters
_FLOOR = -60.0  # dB of full scale, where the meter begins


class View(Protocol):
    """What shows what is heard."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(self, *error: object) -> None:
        """End."""

    def score(self, heard: StreamScore, strongest: dict[str, float]) -> None:
        """A hop; its scores with the strongest first."""

    def level(self, decibels: float) -> None:
        """The loudest sample just heard, in dB of full scale."""


def view_of(spec: TargetSpec, *, top: int, hop: float, quiet: bool, title: str) -> View:
    """The live view where stderr is a terminal that can show it, else lines; nothing if `quiet`."""
    screen = console.console
    if quiet:
        return Silent()
    able = screen.is_terminal and not screen.is_dumb_terminal and not screen.no_color
    return Screen(spec, top, hop, title) if able and screen.encoding.startswith("utf") else Lines(spec, top)


class Silent:
    """Shows nothing: the scores go elsewhere."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def score(self, heard: StreamScore, strongest: dict[str, float]) -> None:
        """Nothing."""

    def level(self, decibels: float) -> None:
        """Nothing."""


@final
class Lines(Silent):
    """One line per hop, and one for each notice that was not there before."""

    def __init__(self, spec: TargetSpec, top: int) -> None:
        self._spec, self._top = spec, top
        self._told: tuple[str, ...] = ()

    def score(self, heard: StreamScore, strongest: dict[str, float]) -> None:
        """Its line."""
        ranked = [name for name in strongest if name in self._spec.ranked][: self._top]
        words = ", ".join(f"{console.name(self._spec[name].name)} {shown(strongest[name], 2)}" for name in ranked)
        console.say(f"{clock(heard.end)}  {words if heard.error is None else console.name(heard.error)}")
        for notice in heard.notices:
            if notice not in self._told:
                console.say(f"  [yellow]note[/] {console.name(notice)}")
        self._told = heard.notices


@final
class Screen:
    """A picture that is drawn anew with each hop."""

    def __init__(self, spec: TargetSpec, top: int, hop: float, title: str) -> None:
        self._spec, self._top, self._title = spec, top, title
        past = max(2, round(PAST / hop))
        self._past = {name: deque[float](maxlen=past) for name in spec.ranked}
        self._last: StreamScore | None = None
        self._strongest: dict[str, float] = {}
        self._level, self._drawn = _FLOOR, 0.0
        self._live = Live(console=console.console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        self._live.update(self.picture(), refresh=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def score(self, heard: StreamScore, strongest: dict[str, float]) -> None:
        """Draw it."""
        self._last = heard
        if heard.error is None:
            self._strongest = strongest
            for name, values in self._past.items():
                values.append(strongest[name])
        self._live.update(self.picture(), refresh=True)

    def level(self, decibels: float) -> None:
        """Move the meter."""
        self._level = max(decibels, self._level - 3)  # falls slowly, as meters do
        if time.monotonic() - self._drawn > REFRESH:
            self._drawn = time.monotonic()
            self._live.update(self.picture(), refresh=True)

    def picture(self) -> Group:
        """All of it."""
        table = Table("", "score", "scale", "", "last minute", box=None, title_justify="left", expand=False)
        for name in [name for name in self._strongest if name in self._spec.ranked][: self._top]:
            target, value = self._spec[name], self._strongest[name]
            bar = "█" * round(min(max(target.share(value), 0.0), 1.0) * _BAR)
            scale, name_shown = f"{target.low:g} to {target.high:g}", console.name(target.name)
            past = sparkline(self._past[name], target)
            table.add_row(name_shown, shown(value, 2), scale, f"[cyan]{bar:<{_BAR}}[/]", f"[dim]{past}[/]")
        lit = round((1 - max(_FLOOR, min(self._level, 0.0)) / _FLOOR) * _BAR)
        colour = "red" if self._level > -1 else "green"
        head = Text.assemble((self._title, "bold"), "   level ", ("█" * lit, colour), ("·" * (_BAR - lit), "dim"))
        if self._last is None:
            return Group(head, Text("listening ...", style="dim"))
        head.append(f"   {clock(self._last.end)}   {1000 * self._last.late_s:.0f} ms late")
        told = [] if self._last.error is None else [Text(self._last.error, style="red")]
        return Group(head, table, *told, *(Text(notice, style="yellow") for notice in self._last.notices))


def sparkline(values: deque[float], target: Target) -> str:
    """The course of a score on its own scale, the highest value of each part."""
    shares = [min(max(target.share(value), 0.0), 1.0) for value in values]
    step = max(1, -(-len(shares) // POINTS))
    parts = [max(shares[first : first + step]) for first in range(0, len(shares), step)]
    return "".join(_SPARKS[round(part * (len(_SPARKS) - 1))] for part in parts)
