"""The verb `corpus`: what a corpus holds, and what was left out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from emonet.clips import SPLITS
from emonet.corpora import CorpusReport, describe, listen, open_corpus
from emonet.targets import open_targets
from emonet.windows import Window
from experiments.core import console, read_labels, show_sounds

if TYPE_CHECKING:
    from experiments.arguments import CorpusArguments

_SHOWN = 20  # rejected clips that people see; --json carries all


def run(arguments: CorpusArguments) -> CorpusReport:
    """Open a corpus, count, and listen to its clips.

    Raises:
        RequestError: if the corpus cannot be opened.
    """
    targets = open_targets(arguments.targets)
    classes = read_labels(arguments.labels, targets)
    with console.progress("corpus") as progress:
        corpus = open_corpus(
            arguments.spec, targets=targets, classes=classes, folder=arguments.runs / "corpora", progress=progress
        )
    with console.progress("listening") as progress:
        return describe(corpus, listen(corpus, arguments.listen, Window(arguments.window), progress))


def show(report: CorpusReport) -> None:
    """Tables on stderr: the splits, the rated targets and the classes; then what was left out."""
    lengths = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in report.seconds.items())
    languages = ", ".join(f"{console.name(code)} {clips}" for code, clips in report.languages.items())
    console.say(
        f"[bold]{console.name(report.name)}[/]: {console.counted(report.clips, 'clip')}, "
        f"{report.hours:.2f} h, {console.counted(report.speakers, 'speaker')}"
    )
    console.say(f"languages: {languages or 'none'}; lengths: {lengths or 'unknown'}")
    if report.note:
        console.say(console.name(report.note))
    splits = Table("split", "clips", "speakers", "hours")
    for name, counts in report.splits.items():
        splits.add_row(name, f"{counts.clips}", f"{counts.speakers}", f"{counts.hours:.2f}")
    console.console.print(splits)
    emotions = Table("rated target", "rated clips", "above lowest", "mean")
    for name, ratings in report.emotions.items():
        emotions.add_row(console.name(name), f"{ratings.rated}", f"{ratings.nonzero}", f"{ratings.mean:z.2f}")
    console.console.print(emotions)
    if report.classes:
        console.console.print(_classes(report))
    _show_sounds(report)
    for rejected in report.rejected[:_SHOWN]:
        console.say(f"[yellow]left out[/] {console.name(rejected.id)}: {console.name(rejected.reason)}")
    if len(report.rejected) > _SHOWN:
        console.say(f"... and {len(report.rejected) - _SHOWN} more; --json lists all")
    if report.passed_over:
        console.say(console.passed_over(report.passed_over))
    for warning in report.warnings:
        console.say(f"[yellow]warning[/] {console.name(warning)}")


def _classes(report: CorpusReport) -> Table:
    table = Table("class", "stands for it", *SPLITS)
    for label, one in report.classes.items():
        table.add_row(console.name(label), console.name(one.target or "–"), *(f"{n}" for n in one.clips.values()))
    return table


def _show_sounds(report: CorpusReport) -> None:
    sounds = report.sounds
    if sounds.listened < report.clips:
        console.say(f"listened to {sounds.listened:,} of {report.clips:,} clips; --listen {report.clips} hears all")
    show_sounds(sounds)
    if sounds.leaks:
        console.say("  [yellow]extract refuses this[/]: leave copies out, or put them into one split")
    for refused in sounds.unreadable[:_SHOWN]:
        console.say(f"  [bold red]cannot be used[/] {console.name(refused.id)}: {console.name(refused.reason)}")
