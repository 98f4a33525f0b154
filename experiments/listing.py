"""The verbs `targets` and `experiments`: what there is to choose from."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from emonet.targets import EMOTIONS
from experiments import console
from experiments.config import load, shipped


def run(arguments: Any) -> list[dict[str, Any]]:
    """Rows of the 40 emotions or of the shipped experiments, whichever the arguments ask for."""
    if type(arguments).__name__ == "TargetsArguments":
        return [{"id": t.id, "name": t.name, "low": t.low, "high": t.high, "terms": list(t.terms)} for t in EMOTIONS]
    return [
        {
            "name": name,
            "corpus": config.corpus,
            "model": config.captioner.model,
            "description": config.description,
        }
        for name, config in ((name, load(str(path))) for name, path in shipped().items())
    ]


def show(rows: list[dict[str, Any]]) -> None:
    """A table on stderr."""
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(", ".join(value) if isinstance(value, list) else f"{value}" for value in row.values()))
    console.console.print(table)
