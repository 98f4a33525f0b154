"""The console: lines, tables and progress bars on stderr; stdout stays free for results."""

from __future__ import annotations

import codecs
import io
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.prompt import Confirm, Prompt
from rich.table import Column, Table
from rich.text import Text

from emonet import numbers
from emonet.names import on_one_line
from emonet.runtime import Progress as ProgressCallback

_PLAIN = {"█": "#", "↑": "^", "↓": "v", "→": ">", "←": "<", "–": "-", "—": "-", "−": "-", "†": "+", "…": "~", "×": "x"}
_PLAIN |= {"\u00a0": " ", "²": "2", "µ": "u"}
LOG_EVERY = 15.0  # seconds between progress lines where stderr is no terminal

NARROWEST = 12  # characters of a column that is wrapped, at least
LONGEST = 24  # characters of a word that a column which may fold does not break


class _Console(Console):
    """A console that breaks no word: paths, names and commands can be copied, if need be from beyond the right edge."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print; tables keep their words and titles whole."""
        for one in objects:
            if isinstance(one, Table):
                _keep_words(self, one)
        super().print(*objects, **options)


def _keep_words(console: Console, table: Table) -> None:
    wide = console.options.update(width=10_000)
    if isinstance(table.title, str):
        table.title = Text.from_markup(table.title, style="table.title", emoji=False, overflow="ignore")
        table.title.no_wrap = True
    for column in table.columns:
        cells = [column.header, *column.cells]
        sizes = [Measurement.get(console, wide, cell) for cell in cells]
        word, line = max(size.minimum for size in sizes), max(size.maximum for size in sizes)
        if column.overflow == "fold":
            word = min(word, LONGEST)
        column.min_width = max(word, min(line, NARROWEST), column.min_width or 0)
        # What has nowhere to be broken leaves it to the other columns to become narrower.
        column.no_wrap = column.no_wrap or word == line
    least = Measurement.get(console, wide, table).minimum
    table.width = least if least > console.width else table.width


# No emoji: `:dog:` in the name of a file stays what it is.
console = _Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


class _Rate(ProgressColumn):
    """Items per second, or seconds per item where that is slower."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = task.fields["unit"]
        return Text("" if not speed else rate(speed, unit), style="cyan")


def rate(per_second: float, unit: str) -> str:
    """`12.3 clips/s`, or `3.1 s per clip` below one a second."""
    if per_second >= 1:
        return f"{per_second:.1f} {unit}/s"
    return f"{1 / per_second:.1f} s per {unit.removesuffix('s')}"


def counted(count: int, unit: str) -> str:
    """`1 clip`, `2 clips` or `1,760 clips`."""
    return f"{count:,} {unit}{'' if count == 1 else 's'}"


duration = numbers.duration  # as counts and rates are, at hand


def name(text: object) -> str:
    """A path, an id or a sentence as markup: on one line, with nothing in it that would steer the terminal."""
    return escape(on_one_line(text))


def passed_over(suffixes: Mapping[str, int]) -> str:
    """`passed over: 3 files (2 .txt, 1 .csv)`."""
    named = ", ".join(f"{count} {name(suffix)}" for suffix, count in suffixes.items())
    return f"passed over: {counted(sum(suffixes.values()), 'file')} ({named})"


def plain_where_needed() -> None:
    r"""Let stderr spell what its encoding cannot show: bars, arrows and dashes in ASCII, the rest as `\xe4`."""
    codecs.register_error("emonet.plain", _plain)
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="emonet.plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    spelled = (_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in text)
    return "".join(spelled), error.end


def say(text: str) -> None:
    """One line on stderr; rich markup is shown."""
    console.print(text)


def can_ask() -> bool:
    """Whether somebody sits at a terminal who can be asked."""
    return console.is_terminal and sys.stdin is not None and sys.stdin.isatty()


def agreed(question: str) -> bool:
    """Ask a question at the terminal; whatever is not yes is no."""
    try:
        return Confirm.ask(name(question), console=console, default=False)
    except EOFError:
        return False


def answered(question: str) -> str:
    """Ask for a word at the terminal; empty is no answer."""
    try:
        return Prompt.ask(name(question), console=console, default="", show_default=False).strip()
    except EOFError:
        return ""


@contextmanager
def progress(label: str, unit: str = "clips") -> Iterator[ProgressCallback]:
    """A progress callback: a bar at a terminal, a line now and then in a log.

    Args:
        label: what is being done, e.g. `encoding`.
        unit: what is counted, in the plural.
    """
    if console.is_terminal and not console.is_dumb_terminal:
        with _bar(label, unit) as callback:
            yield callback
    else:
        yield _lines(label, unit)


@contextmanager
def _bar(label: str, unit: str) -> Iterator[ProgressCallback]:
    whole = Column(no_wrap=True)  # on a narrow terminal the bar gets shorter, and the note goes on below
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(table_column=whole),
        _Rate(table_column=whole),
        TimeRemainingColumn(table_column=whole),
        TextColumn("{task.fields[note]}", style="dim", table_column=Column()),
    )
    # By the last hour, and not by half a minute: trials take minutes each.
    with Progress(*columns, console=console, transient=True, speed_estimate_period=3600.0) as bar:
        task = bar.add_task(label, total=None, unit=unit, note="")

        def callback(completed: int, total: int, note: str = "") -> None:
            bar.update(task, completed=completed, total=total, note=note)

        yield callback


def _lines(label: str, unit: str) -> ProgressCallback:
    started = last = time.monotonic()
    before: int | None = None

    def callback(completed: int, total: int, note: str = "") -> None:
        nonlocal last, before
        before = completed if before is None else before
        now = time.monotonic()
        if now - last < LOG_EVERY:
            return
        last = now
        speed = (completed - before) / (now - started) if now > started else 0.0
        left = f", {rate(speed, unit)}, {duration((total - completed) / speed)} left" if speed > 0 else ""
        say(f"{label}: {completed} of {total} {unit}{left}{note and f', {note}'}")

    return callback
