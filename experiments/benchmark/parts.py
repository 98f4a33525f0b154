"""Parts of a benchmark: what came of each protocol, kept so that a run that was stopped goes on after them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field, ValidationError

from emonet.protocols import ProtocolTable
from emonet.runtime import durable
from emonet.schema import Schema
from experiments.core import decoration

PARTS, PART = "parts", "part.json"


class Picture(Schema):
    """A figure of a part."""

    file: str
    """PNG beside the part."""
    text: str
    """What it shows, in a sentence."""


class Part(Schema):
    """What came of one entry of the plan."""

    key: str
    """The entry's name, or else its protocol."""
    inputs: str
    """SHA-256 of everything that fixes it; nothing where it is not settled, so that it is made again."""
    tables: tuple[ProtocolTable, ...] = ()
    """In the order of the page."""
    pictures: tuple[Picture, ...] = ()
    """In the order of the page."""
    seconds: float = Field(0.0, ge=0)
    """How long it took (seconds)."""
    skipped: str | None = None
    """Why it was left out."""


@dataclass
class Draft:
    """Tables and pictures of a part while it is made.

    Args:
        folder: of the part.
    """

    folder: Path
    tables: list[ProtocolTable] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)

    def add(self, *tables: ProtocolTable) -> None:
        """Take in tables."""
        self.tables += tables

    def draw(self, name: str, text: str, figure: Callable[[Path], None]) -> None:
        """Draw a picture; one that cannot be drawn is told, and left out."""
        with decoration(f"the picture {name}"):
            self.folder.mkdir(parents=True, exist_ok=True)
            figure(self.folder / f"{name}.png")
            self.pictures.append(Picture(file=f"{name}.png", text=text))


def read_part(folder: Path, inputs: str) -> Part | None:
    """A part that was made of the same; None where there is none, or a picture of it is gone."""
    try:
        part = Part.model_validate_json((folder / PART).read_bytes())
    except (OSError, ValidationError):
        return None
    there = all((folder / picture.file).is_file() for picture in part.pictures)
    return part if there and part.inputs == inputs and part.skipped is None else None


def write_part(folder: Path, part: Part) -> None:
    """Keep a part, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    durable.write(folder / PART, part.model_dump_json(indent=2).encode())


def remove_others(folder: Path, keys: Sequence[str]) -> None:
    """Remove parts of entries that the plan no longer has."""
    for other in folder.iterdir() if folder.is_dir() else ():
        if other.name not in keys and (other / PART).is_file():
            shutil.rmtree(other)
