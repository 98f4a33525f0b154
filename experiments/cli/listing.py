"""Listings: the verbs `targets` and `experiments`, what there is to choose from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from emonet.errors import RequestError
from emonet.targets import open_targets
from experiments.core import console, load, shipped

if TYPE_CHECKING:
    from experiments.arguments import TargetsArguments


def targets(arguments: TargetsArguments) -> list[dict[str, Any]]:
    """The targets of a set.

    Raises:
        RequestError: if there is no such set, or its file cannot be used.
    """
    found = open_targets(arguments.set)
    if not len(found):
        raise RequestError(
            "the classes are those of a corpus, and not known without one",
            found=arguments.set,
            hint="emonet corpus CORPUS --targets classes",
        )
    return [
        {
            **{name: getattr(target, name) for name in ("id", "name", "low", "high", "meaning", "group")},
            "terms": list(target.terms),
            "aliases": list(target.aliases),
        }
        for target in found
    ]


def experiments(arguments: object) -> list[dict[str, Any]]:  # noqa: ARG001
    """The experiments that come with emonet."""
    return [
        {"name": name, "corpus": config.corpus, "model": config.captioner.model, "description": config.description}
        for name, config in ((name, load(str(path))) for name, path in shipped().items())
    ]


def show_targets(rows: list[dict[str, Any]]) -> None:
    """A table on stderr; sets without terms show what they measure in their place."""
    told = "terms" if all(row["terms"] for row in rows) else "meaning"
    table = Table("id", "name", "scale", told, box=None, padding=(0, 1, 0, 0))
    for row in rows:
        text = ", ".join(row["terms"]) if told == "terms" else row["meaning"]
        table.add_row(row["id"], escape(row["name"]), f"{row['low']:g} to {row['high']:g}", escape(text))
    console.console.print(table)


def show_experiments(rows: list[dict[str, Any]]) -> None:
    """A name with its description on stderr, and below it what it uses."""
    for row in rows:
        console.say(f"[bold]{escape(row['name'])}[/]: {escape(row['description'])}")
        console.say(f"    corpus {escape(row['corpus'])}, captioner {escape(row['model'])}")
