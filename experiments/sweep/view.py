"""What a sweep looks like while it runs: a live picture at a terminal, lines in a log."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from experiments.core import console
from experiments.sweep.records import Plan, TrialRecord

MOST = 12  # running trials that fit on a screen


@dataclass(frozen=True)
class Standing:
    """How far a study is.

    Args:
        records: all its trials.
        best: the best of them.
        wanted: trials that it shall have (count).
        began: when this process began, and how many trials were finished by then.
        now: seconds since 1970.
    """

    records: Sequence[TrialRecord]
    best: TrialRecord | None
    wanted: int
    began: tuple[float, int]
    now: float

    def count(self, *states: str) -> int:
        """Trials in one of these states (count)."""
        return sum(record.state in states for record in self.records)

    @property
    def finished(self) -> int:
        """Trials that count (count)."""
        return self.count("complete", "pruned")

    @property
    def per_hour(self) -> float | None:
        """Trials finished an hour since this process began, by all workers; None before the first."""
        since, before = self.began
        done, hours = self.finished - before, (self.now - since) / 3600
        return done / hours if done > 0 and hours > 0 else None

    @property
    def left(self) -> str:
        """The time until the study is complete, in words."""
        speed = self.per_hour
        return "unknown" if speed is None else console.duration(3600 * (self.wanted - self.finished) / speed)

    def summary(self) -> str:
        """One line: counts, speed, time left."""
        speed = "" if self.per_hour is None else f", {self.per_hour:.0f} trials an hour"
        left = f", {self.left} left" if speed and self.finished < self.wanted else ""
        return (
            f"{self.finished} of {self.wanted} trials finished ({self.count('pruned')} pruned), "
            f"{self.count('running')} running, {self.count('failed')} failed{speed}{left}"
        )


class View:
    """Shows a study; a context manager."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        terminal = console.console.is_terminal
        self._live = Live(console=console.console, auto_refresh=False, transient=True) if terminal else None
        self._told: set[int] = set()
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def begin(self, records: Sequence[TrialRecord]) -> None:
        """Trials that were there before are not told again."""
        self._told = {record.number for record in records if record.ended is not None}

    def update(self, standing: Standing) -> None:
        """Show how far the study is."""
        for record in standing.records:
            if record.ended is not None and record.number not in self._told:
                self._told.add(record.number)
                console.say(line(record, standing.best))
        if self._live:
            self._live.update(picture(standing, self._plan), refresh=True)
        elif time.monotonic() - self._last > console.LOG_EVERY:
            self._last = time.monotonic()
            console.say(f"sweep: {standing.summary()}")


def line(record: TrialRecord, best: TrialRecord | None) -> str:
    """A finished trial in one line, with rich markup."""
    seconds = console.duration(max(0.0, (record.ended or record.started) - record.started))
    head = f"trial {record.number}: "
    if record.state == "failed":
        return f"{head}[yellow]failed[/], {console.name(record.reason or '')}"
    if record.state == "pruned":
        return f"{head}pruned after {console.counted(len(record.curve), 'epoch')}{_last(record)}, {seconds}"
    mark = ", [bold]best so far[/]" if best is not None and best.number == record.number else ""
    return f"{head}{values(record)}, {seconds}{mark}; {console.name(settings(record.params))}"


def values(record: TrialRecord) -> str:
    """`mae 0.412, parameters 12,345`."""
    return ", ".join(f"{name} {_number(value)}" for name, value in record.values.items())


def settings(params: Mapping[str, Any]) -> str:
    """`learning_rate 0.0031, inputs statistics`: the last word of each path is enough."""
    return ", ".join(f"{path.rpartition('.')[2]} {_shown(value)}" for path, value in params.items())


def picture(standing: Standing, plan: Plan) -> Group:
    """The live picture: how far it is, the best trial, and those that run."""
    head = Table.grid(padding=(0, 2))
    head.add_row(Text(plan.name, style="bold"), ProgressBar(standing.wanted, standing.finished, width=30))
    best = standing.best
    found = "none yet" if best is None else f"trial {best.number}, {values(best)}; {settings(best.params)}"
    rows: list[Any] = [head, _folded(standing.summary()), _folded(f"best: {found}")]
    running = [record for record in standing.records if record.state == "running"]
    if running:
        table = Table(box=None, padding=(0, 2), show_edge=False)
        for name, width in {"trial": 5, "epoch": 9, "error": 7, "time": 5}.items():
            table.add_column(name, no_wrap=True, min_width=width, justify="right")
        table.add_column("settings", no_wrap=True)
        for record in running[:MOST]:
            error = _number(record.curve[-1]) if record.curve else ""
            since = console.duration(max(0.0, standing.now - record.started))
            done = len(record.curve)  # more than a training's where a trial tries several forms of input
            epoch = f"{done} of {plan.epochs}" if done <= plan.epochs else str(done)
            table.add_row(str(record.number), epoch, error, since, Text(settings(record.params)))
        rows.append(table)
        if len(running) > MOST:
            rows.append(Text(f"and {len(running) - MOST} more"))
    return Group(*rows)


def _folded(text: str) -> Text:
    """Text that goes on in the next line: the console's own lines are as long as they are, and a picture's are cut."""
    return Text(text, no_wrap=False, overflow="fold")


def _last(record: TrialRecord) -> str:
    return f" at {_number(record.curve[-1])}" if record.curve else ""


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:z.4g}"


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "-".join(_shown(item) for item in value)
    return f"{value:z.3g}" if isinstance(value, float) else str(value)
