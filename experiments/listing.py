"""The verbs `targets` and `experiments`: what there is to choose from."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from emonet.targets import EMOTIONS
from experiments import console
from experiments.config import load, shipped


def targets(arguments: object) -> list[dict[str, Any]]:  # noqa: ARG001  # verbs are called alike
    """The 40 emotions."""
    return [{"id": t.id, "name": t.name, "low": t.low, "high": t.high, "terms": list(t.terms)} for t in EMOTIONS]


def experiments(arguments: object) -> list[dict[str, Any]]:  # noqa: ARG001
    """The experiments that come with emonet."""
    return [
        {"name": name, "corpus": config.corpus, "model": config.captioner.model, "description": config.description}
        for name, config in ((name, load(str(path))) for name, path in shipped().items())
    ]


def show(rows: list[dict[str, Any]]) -> None:
    """A table on stderr."""
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(", ".join(value) if isinstance(value, list) else f"{value}" for value in row.values()))
    console.console.print(table)
