"""Notices about the sound of clips, as verbs show them."""

from __future__ import annotations

from emonet.corpora import SHOWN, SoundReport
from experiments.core import console


def show_sounds(report: SoundReport) -> None:
    """A line for each kind of notice on stderr, and one for copies."""
    for found in report.notices:
        clips = console.counted(found.clips, "clip")
        if found.kind == "window":
            heard = f"{report.hours_heard:.2f} of {report.hours:.2f} h are heard"
            console.say(f"  [yellow]longer than the window[/] {clips}: {heard} ({_some(found.ids, found.clips)})")
        else:
            told = console.name(found.example)
            console.say(f"  [yellow]sound of {clips}[/]: {told} ({_some(found.ids, found.clips)})")
    for leak in report.leaks[:SHOWN]:
        console.say(f"  [bold red]the same sound in two splits[/]: {console.name(' = '.join(leak))}")
    if len(report.leaks) > SHOWN:
        console.say(f"  ... and {len(report.leaks) - SHOWN} more sounds in two splits; --json lists all")
    if report.copies:
        clips = console.counted(sum(map(len, report.copies)), "clip")
        shown = console.name(" = ".join(report.copies[0][:SHOWN]))
        console.say(f"  [yellow]the same sound[/] {clips} are copies, such as {shown}; each counts by itself")


def _some(ids: tuple[str, ...], count: int) -> str:
    return console.name(", ".join(ids)) + (", ..." if count > len(ids) else "")
