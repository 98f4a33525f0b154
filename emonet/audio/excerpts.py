"""Excerpts: a recording, or a part of one, as everything that decodes takes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable


@runtime_checkable  # so that tests can check annotations at run time
class HasAudio(Protocol):
    """What can be decoded; a `Clip`, for example."""

    @property
    def audio(self) -> Path | bytes:
        """Path of a file, or the encoded bytes of one."""

    @property
    def start(self) -> float | None:
        """Where to begin, in seconds; None is the beginning."""

    @property
    def end(self) -> float | None:
        """Where to stop, in seconds; None is the end."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A recording, or a part of one, of which nothing else is known.

    Args:
        audio: path of a file, or the encoded bytes of one.
        start: where to begin, in seconds; None is the beginning.
        end: where to stop, in seconds; None is the end.
    """

    audio: Path | bytes
    start: float | None = None
    end: float | None = None
