"""The verb `verify`: is a feature store whole?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rich.markup import escape

from experiments import console

if TYPE_CHECKING:
    from cache.verify import StoreReport


class Arguments(Protocol):
    """What `run` needs to know."""

    @property
    def store(self) -> Path:
        """The folder NAME.zarr."""

    @property
    def deep(self) -> bool:
        """Read every chunk back."""


def run(arguments: Arguments) -> StoreReport:
    """Check a store.

    Raises:
        RequestError: if there is no store, or its extraction did not finish.
        EmonetError: if its table is damaged.
    """
    from cache.verify import verify

    with console.progress("reading" if arguments.deep else "checking") as progress:
        return verify(arguments.store, deep=arguments.deep, progress=progress)


def show(report: StoreReport) -> None:
    """What was found, on stderr."""
    clips, frames, width = report.shape
    console.say(
        f"{report.store}: {clips} clips x {frames} states x {width} of {escape(report.corpus)}, "
        f"{report.failed} without states, {report.bytes_stored / 1e6:.1f} MB"
    )
    for failure in report.failures[:10]:
        console.say(f"  [yellow]no states[/] {escape(failure.id)}: {escape(failure.reason)}")
    for problem in report.problems:
        console.say(f"  [bold red]problem[/] {escape(problem)}")
    if not report.problems:
        console.say("whole: every chunk was read back" if report.deep else "whole; --deep reads every chunk back")
