"""The verbs `targets` and `experiments`: what there is to choose from."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from emonet.targets import EMOTIONS
from experiments.core import console, load, shipped


def targets(arguments: object) -> list[dict[str, Any]]:  # noqa: ARG001  # verbs are called alike
    """The 40 emotions."""
    return [{"id": t.id, "name": t.name, "low": t.low, "high": t.high, "terms": list(t.terms)} for t in EMOTIONS]


def experiments(arguments: object) -> list[dict[str, Any]]:  # noqa: ARG001
    """The experiments that come with emonet."""
    return [
        {"name": name, "corpus": config.corpus, "model": config.captioner.model, "description": config.description}
        for name, config in ((name, load(str(path))) for name, path in shipped().items())
    ]


def show_targets(rows: list[dict[str, Any]]) -> None:
    """A table on stderr."""
    table = Table("id", "name", "scale", "terms", box=None, padding=(0, 1, 0, 0))
    for row in rows:
        table.add_row(row["id"], row["name"], f"{row['low']:g} to {row['high']:g}", ", ".join(row["terms"]))
    console.console.print(table)


def show_experiments(rows: list[dict[str, Any]]) -> None:
    """A name with its description on stderr, and below it what it uses."""
    for row in rows:
        console.say(f"[bold]{escape(row['name'])}[/]: {escape(row['description'])}")
        console.say(f"    corpus {escape(row['corpus'])}, captioner {escape(row['model'])}")
