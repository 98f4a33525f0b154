"""View of a running sweep: its progress, and a line for each trial that has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from emonet.runtime import Progress
from experiments.core import console
from experiments.sweep.records import TrialRecord

MOST = 4  # running trials whose epochs are told


class View:
    """Shows a study.

    Args:
        progress: gets the trials that are finished.
        wanted: trials that the study shall have (count).
        before: trials that were there when this process began; these are not told again.
    """

    def __init__(self, progress: Progress, wanted: int, before: Sequence[TrialRecord]) -> None:
        self._progress, self._wanted = progress, wanted
        self._told = {record.number for record in before if record.ended is not None}

    def update(self, records: Sequence[TrialRecord], best: TrialRecord | None) -> None:
        """Show how far the study is.

        Args:
            records: all its trials.
            best: the best of them.
        """
        for record in records:
            if record.ended is not None and record.number not in self._told:
                self._told.add(record.number)
                console.say(line(record, best))
        self._progress(sum(record.finished for record in records), self._wanted, standing(records, best))


def standing(records: Sequence[TrialRecord], best: TrialRecord | None) -> str:
    """`best mae 0.412, 1 failed, running: 3 (epoch 7), 4 (epoch 2)`."""
    failed = sum(record.state == "failed" for record in records)
    running = [record for record in records if record.state == "running"]
    told = ", ".join(f"{record.number} (epoch {len(record.curve)})" for record in running)
    parts = [
        f"best {values(best)}" if best is not None else "",
        f"{failed} failed" if failed else "",
        f"{len(running)} running" if len(running) > MOST else f"running: {told}" if running else "",
    ]
    return ", ".join(part for part in parts if part)


def line(record: TrialRecord, best: TrialRecord | None) -> str:
    """A finished trial in one line, with rich markup."""
    seconds = console.duration(max(0.0, (record.ended or record.started) - record.started))
    head = f"trial {record.number}: "
    if record.state == "failed":
        return f"{head}[yellow]failed[/], {console.name(record.reason or '')}"
    if record.state == "pruned":
        last = f" at {_number(record.curve[-1])}" if record.curve else ""
        return f"{head}pruned after {console.counted(len(record.curve), 'epoch')}{last}, {seconds}"
    mark = ", [bold]best so far[/]" if best is not None and best.number == record.number else ""
    return f"{head}{values(record)}, {seconds}{mark}; {console.name(settings(record.params))}"


def values(record: TrialRecord) -> str:
    """`mae 0.412, parameters 12,345`."""
    return ", ".join(f"{name} {_number(value)}" for name, value in record.values.items())


def settings(params: Mapping[str, Any]) -> str:
    """`learning_rate 0.0031, inputs statistics`: the last word of each path is enough."""
    return ", ".join(f"{path.rpartition('.')[2]} {_shown(value)}" for path, value in params.items())


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:z.4g}"


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "-".join(_shown(item) for item in value)
    return f"{value:z.3g}" if isinstance(value, float) else str(value)
