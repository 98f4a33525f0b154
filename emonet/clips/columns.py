"""Columns of clips: what a million clips are held as, in a few hundred megabytes, instead of a million objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from emonet.clips.audio_column import AudioColumn
from emonet.clips.clip import UNKNOWN, Clip
from emonet.clips.coded import Coded, objects
from emonet.clips.given import Given

BLOCK = 4096  # clips that are made at a time where all are asked for
TIMES = ("start", "end")

Rows = NDArray[np.int64]
Times = NDArray[np.float64] | NDArray[np.object_]
"""Seconds, NaN for None; as they were given where they are not all of type float: whole ones look different as text."""


@final
@dataclass(frozen=True, eq=False)
class ClipColumns:
    """A column for each field of `Clip`; all of one length."""

    id: NDArray[np.object_]
    audio: AudioColumn
    speaker: Coded
    split: Coded
    language: Coded
    caption: Coded
    label: Coded
    start: Times
    end: Times
    seconds: NDArray[np.float64]
    weight: NDArray[np.float64]
    scores: Given
    weights: Given

    @classmethod
    def of(cls, clips: Sequence[Clip]) -> ClipColumns:
        """The columns of these clips."""
        return cls(**{name: column(clips, name) for name in NAMES})

    @classmethod
    def joined(cls, parts: Sequence[ClipColumns]) -> ClipColumns:
        """Several, one behind the other."""
        return (
            cls(**{name: _joined([getattr(part, name) for part in parts]) for name in NAMES}) if parts else cls.of(())
        )

    def __len__(self) -> int:
        return len(self.id)

    def take(self, rows: Rows) -> ClipColumns:
        """Those of some rows."""
        return ClipColumns(**{name: taken(getattr(self, name), rows) for name in NAMES})

    def clips(self, rows: Rows) -> list[Clip]:
        """Clips of some rows, made anew."""
        some = self.take(rows)
        return [
            Clip(*values)
            for values in zip(
                some.id.tolist(),
                some.audio.values(),
                some.speaker.values(),
                some.split.values(),
                some.language.values(),
                some.scores.mappings(),
                some.caption.values(),
                _given_times(some.start),
                _given_times(some.end),
                [UNKNOWN if one != one else one for one in some.seconds.tolist()],
                some.weight.tolist(),
                some.weights.mappings(),
                some.label.values(),
                strict=True,
            )
        ]

    @cached_property
    def recordings(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which recording each clip is of, by a number; its size in bytes, or -1 where it is no file or is not there.

        Files are asked once, when this is first wanted.
        """
        return self.audio.recordings()

    @property
    def anonymous(self) -> NDArray[np.bool_]:
        """Which clips name their own id as their speaker."""
        return np.asarray(self.id == self.speaker.array(), bool)


NAMES = tuple(field.name for field in fields(ClipColumns))
TEXTS = tuple(field.name for field in fields(ClipColumns) if field.type == "Coded")


def column(clips: Sequence[Clip], name: str) -> Any:
    """The column of a field of these clips."""
    values = [getattr(clip, name) for clip in clips]
    if name in TEXTS:
        return Coded.of(values)
    if name in {"scores", "weights"}:
        return Given.of(values)
    if name in TIMES:
        return _times(values)
    if name == "audio":
        return AudioColumn.of(values)
    return objects(values) if name == "id" else np.array(values, np.float64)


def taken(column: Any, rows: Rows) -> Any:
    """Some rows of a column."""
    return column[rows] if isinstance(column, np.ndarray) else column.take(rows)


def listed(column: Any, name: str) -> list[Any]:
    """A column as the clips have it in a field, one by one."""
    if isinstance(column, Given):
        return column.mappings()
    if isinstance(column, np.ndarray):
        return _given_times(column) if name in TIMES else column.tolist()
    values: list[Any] = column.values()
    return values


@final
class GatheredClips:
    """Gathers clips as columns, block by block: no more clips than a block has are there at once."""

    def __init__(self) -> None:
        self._blocks: list[ClipColumns] = []
        self._block: list[Clip] = []

    def add(self, clip: Clip) -> None:
        """Take one more clip."""
        if len(self._block) == BLOCK:
            self._blocks.append(ClipColumns.of(self._block))
            self._block.clear()
        self._block.append(clip)

    def __len__(self) -> int:
        return len(self._blocks) * BLOCK + len(self._block)

    def at(self, row: int) -> Clip:
        """One of those that were added."""
        block, place = divmod(row, BLOCK)
        return self._blocks[block].clips(np.array([place]))[0] if block < len(self._blocks) else self._block[place]

    def taken(self) -> ClipColumns:
        """All of them; none are left here, so that they are not there twice."""
        blocks, self._blocks, self._block = [*self._blocks, ClipColumns.of(self._block)], [], []
        return ClipColumns.joined(blocks)


def _joined(parts: list[Any]) -> Any:
    if not isinstance(parts[0], np.ndarray):
        return type(parts[0]).joined(parts)
    if len({part.dtype for part in parts}) > 1:
        return objects([time for part in parts for time in _given_times(part)])
    return np.concatenate(parts)


def _times(values: list[float | None]) -> Times:
    if all(value is None or (type(value) is float and value == value) for value in values):
        return np.array([np.nan if value is None else value for value in values], np.float64)
    return objects(values)


def _given_times(times: Times) -> list[float | None]:
    given: list[float | None] = times.tolist()
    return given if times.dtype == object else [None if time != time else time for time in given]
