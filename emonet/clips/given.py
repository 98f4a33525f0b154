"""Scores, or weights of scores, as columns: one for each name, with NaN where nobody gave any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import final

import numpy as np
from numpy.typing import NDArray


@final
@dataclass(frozen=True, eq=False)
class Given:
    """What clips were given under some names.

    Args:
        names: as the clips spell them.
        values: shape (clips, names); NaN where there is none.
        present: where there is one, if some of these are NaN themselves; shape (clips, names).
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]
    present: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, clips: Sequence[Mapping[str, float]]) -> Given:
        """The columns of mappings from a name to a number."""
        numbers: dict[str, int] = {}
        counts = np.fromiter(map(len, clips), np.intp, len(clips))
        total = int(counts.sum())
        names = chain.from_iterable(clips)
        columns = np.fromiter((numbers.setdefault(name, len(numbers)) for name in names), np.intp, total)
        found = np.fromiter(chain.from_iterable(one.values() for one in clips), np.float64, total)
        rows = np.repeat(np.arange(len(clips)), counts)
        values = np.full((len(clips), len(numbers)), np.nan, order="F")
        values[rows, columns] = found
        if not np.isnan(found).any():
            return cls(tuple(numbers), values)
        present = np.zeros(values.shape, bool, order="F")
        present[rows, columns] = True
        return cls(tuple(numbers), values, present)

    @classmethod
    def none(cls, clips: int) -> Given:
        """Nothing given to any of so many clips."""
        return cls((), np.empty((clips, 0)))

    @classmethod
    def joined(cls, parts: Sequence[Given]) -> Given:
        """The columns of several corpora, one behind the other."""
        names = tuple(dict.fromkeys(name for part in parts for name in part.names))
        shape = (sum(map(len, parts)), len(names))
        values = np.full(shape, np.nan, order="F")
        present = np.zeros(shape, bool, order="F") if any(part.present is not None for part in parts) else None
        first = 0
        for part in parts:
            for column, name in enumerate(part.names):
                place = slice(first, first + len(part)), names.index(name)
                values[place] = part.values[:, column]
                if present is not None:
                    present[place] = part.where(column)
            first += len(part)
        return cls(names, values, present)

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: NDArray[np.int64]) -> Given:
        """Those of some rows."""
        return Given(self.names, self.values[rows], None if self.present is None else self.present[rows])

    def ordered(self, names: Sequence[str]) -> Given:
        """The same with names in this order, in which mappings have them, too; names that are not here add nothing."""
        kept = tuple(name for name in names if name in self.names)
        if kept == self.names:
            return self
        places = [self.names.index(name) for name in kept]
        return Given(kept, self.values[:, places], None if self.present is None else self.present[:, places])

    def where(self, column: int) -> NDArray[np.bool_]:
        """Which clips were given something under a name, by its position."""
        return ~np.isnan(self.values[:, column]) if self.present is None else self.present[:, column]

    def some(self) -> NDArray[np.bool_]:
        """Which clips were given anything."""
        found = np.zeros(len(self), bool)
        for column in range(len(self.names)):
            found |= self.where(column)
        return found

    def filled(self, others: Given) -> Given:
        """These, and those of others for clips that were given nothing here; others have nothing for the rest."""
        names = tuple(dict.fromkeys((*self.names, *others.names)))
        values = np.full((len(self), len(names)), np.nan, order="F")
        present = np.zeros(values.shape, bool, order="F")
        for part in (self, others):
            for column, name in enumerate(part.names):
                rows, place = part.where(column), names.index(name)
                values[rows, place] = part.values[rows, column]
                present[rows, place] = True
        return Given(names, values, None if (present != np.isnan(values)).all() else present)

    def used(self) -> list[str]:
        """The names under which at least one clip was given something."""
        return [name for column, name in enumerate(self.names) if self.where(column).any()]

    def mappings(self) -> list[dict[str, float]]:
        """What each clip was given, by name."""
        if not self.names:
            return [{} for _ in range(len(self))]
        present = ~np.isnan(self.values) if self.present is None else self.present
        rows = self.values.tolist()
        if present.all():
            return [dict(zip(self.names, row, strict=True)) for row in rows]
        return [
            {name: value for name, value, there in zip(self.names, row, found, strict=True) if there}
            for row, found in zip(rows, present.tolist(), strict=True)
        ]
