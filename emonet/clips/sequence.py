"""Clips as a sequence that is made on demand: it holds columns, and makes the clips that are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, final, overload

import numpy as np
from numpy.typing import NDArray

from emonet.clips.clip import Clip
from emonet.clips.columns import BLOCK, ClipColumns, Rows, column, listed, taken


@final
class Clips(Sequence[Clip]):
    """Clips of a corpus, or some of them, in order; equal to any other sequence of the same clips.

    Args:
        columns: that they are made of.
        rows: which of them; None for all.
    """

    def __init__(self, columns: ClipColumns, rows: Rows | None = None) -> None:
        self._all = columns
        self._rows = rows

    @cached_property
    def columns(self) -> ClipColumns:
        """Theirs."""
        return self._all if self._rows is None else self._all.take(self._rows)

    def column(self, name: str) -> Any:
        """One of their columns."""
        whole = getattr(self._all, name)
        return whole if self._rows is None else taken(whole, self._rows)

    def where(self, wanted: NDArray[np.bool_]) -> Clips:
        """Those of them that are wanted."""
        rows = np.flatnonzero(wanted)
        return Clips(self._all, rows if self._rows is None else self._rows[rows])

    def __len__(self) -> int:
        return len(self._all) if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Clip: ...
    @overload
    def __getitem__(self, place: slice) -> Clips: ...
    def __getitem__(self, place: int | slice) -> Clip | Clips:
        rows = np.arange(len(self._all)) if self._rows is None and isinstance(place, slice) else self._rows
        if isinstance(place, slice):
            assert rows is not None
            return Clips(self._all, rows[place])
        row = range(len(self))[place]
        return self._all.clips(np.array([row if rows is None else rows[row]]))[0]

    def __iter__(self) -> Iterator[Clip]:
        for first in range(0, len(self), BLOCK):
            block = np.arange(first, min(first + BLOCK, len(self)))
            yield from self._all.clips(block if self._rows is None else self._rows[block])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    def __reduce__(self) -> tuple[type[Clips], tuple[ClipColumns]]:
        return Clips, (self.columns,)

    __hash__ = None  # type: ignore[assignment] # as clips, whose scores are mappings

    def __repr__(self) -> str:
        return f"<{len(self)} clips>"


def column_of(clips: Sequence[Clip], name: str) -> Any:
    """The column of a field of clips, however they are held."""
    return clips.column(name) if isinstance(clips, Clips) else column(clips, name)


def values_of(clips: Sequence[Clip], name: str) -> list[Any]:
    """The values of a field of clips, without making a clip for each.

    Args:
        clips: of which.
        name: of the field, e.g. `speaker`.
    """
    return listed(clips.column(name), name) if isinstance(clips, Clips) else [getattr(clip, name) for clip in clips]
