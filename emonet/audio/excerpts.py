"""Excerpts: a recording, or a part of one, as everything that decodes takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from emonet.clips import Audio


@runtime_checkable  # so that tests can check annotations at run time
class HasAudio(Protocol):
    """What can be decoded; a `Clip`, for example."""

    @property
    def audio(self) -> Audio:
        """Path of a file, the encoded bytes of one, or where these are."""

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
        audio: path of a file, the encoded bytes of one, or where these are.
        start: where to begin, in seconds; None is the beginning.
        end: where to stop, in seconds; None is the end.
        channel: which one is heard alone, from 0; None for all, mixed.
    """

    audio: Audio
    start: float | None = None
    end: float | None = None
    channel: int | None = None
