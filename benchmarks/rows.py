"""The rows of a benchmark: a table for people, and a JSON file whose rows all benchmarks share."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from emonet.runtime import durable

WIDTH = 120  # characters that the table takes at least


@dataclass(frozen=True)
class Row:
    """One figure, and how it compares.

    Args:
        name: what was measured.
        figure: the value.
        unit: of the figure, e.g. `s/clip`.
        peer: what it is compared with; empty where it stands alone.
        ratio: how many times better than the peer; above 1 is better, whichever way the figure goes.
        reach: the ratio that is aimed at, if any.
    """

    name: str
    figure: float
    unit: str
    peer: str = ""
    ratio: float | None = None
    reach: float | None = None

    @property
    def verdict(self) -> str:
        """`met`, `short`, or nothing where there is no aim."""
        if self.ratio is None or self.reach is None:
            return ""
        return "met" if self.ratio >= self.reach else "short"


def interleaved_seconds(
    calls: Mapping[str, Callable[[], object]], *, repeats: int = 5, warmup: int = 1
) -> dict[str, list[float]]:
    """Times of several calls, taken in turn, so that a machine's noise hits all of them alike.

    Args:
        calls: name -> what to time.
        repeats: rounds that count; each calls everything once.
        warmup: rounds before that, which do not count.

    Returns:
        Name -> seconds of each round.
    """
    for _ in range(warmup):
        for call in calls.values():
            call()
    rounds = [{name: seconds_of(call) for name, call in calls.items()} for _ in range(repeats)]
    return {name: [taken[name] for taken in rounds] for name in calls}


def seconds_of(call: Callable[[], object]) -> float:
    """How long one call takes (seconds)."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def publish(rows: Sequence[Row], path: Path, *, title: str, about: Mapping[str, object]) -> None:
    """Print the rows as a table, and write them as JSON.

    Args:
        rows: what was measured.
        path: the JSON file; its folders are made.
        title: of the table.
        about: what the figures depend on (sizes, versions, settings); values that JSON can hold.

    Raises:
        ValueError: if a figure is not finite.
    """
    content = {"machine": machine(), "about": dict(about), "rows": [asdict(row) for row in rows]}
    text = json.dumps(content, indent=2, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write(path, f"{text}\n".encode())
    Console(width=max(WIDTH, Console().width)).print(_table(rows, title))
    print(f"written: {path}")


def machine() -> str:
    """Processor, cores, system and GPUs, in one line."""
    import torch

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return ", ".join([f"{_processor()}, {cores} cores", platform.platform(terse=True), *gpus])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _table(rows: Sequence[Row], title: str) -> Table:
    colours = {"met": "green", "short": "yellow", "": ""}
    table = Table("what", "figure", "unit", "against", "ratio", "reach", "", title=escape(title))
    for column in (1, 4, 5):
        table.columns[column].justify = "right"
    for row in rows:
        table.add_row(
            escape(row.name),
            f"{row.figure:,.4g}" if abs(row.figure) < 1e4 else f"{row.figure:,.0f}",
            escape(row.unit),
            escape(row.peer),
            "" if row.ratio is None else f"{row.ratio:.2f}",
            "" if row.reach is None else f"{row.reach:.2f}",
            row.verdict,
            style=colours[row.verdict],
        )
    return table
