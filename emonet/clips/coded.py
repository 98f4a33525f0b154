"""Columns of values that repeat, such as speakers: each value once, and its number for each clip."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

NONE = -1  # the number of a value that is not there


@final
@dataclass(frozen=True, eq=False)
class Coded:
    """A column of texts, or None.

    Args:
        names: different values, in the order in which they were first met; some may be no clip's.
        codes: number of each clip's value among them; -1 where it has none.
    """

    names: tuple[str, ...]
    codes: NDArray[np.int32]

    @classmethod
    def of(cls, values: Iterable[str | None]) -> Coded:
        """The column of so many values."""
        numbers: dict[str | None, int] = {None: NONE}
        codes = np.fromiter((numbers.setdefault(value, len(numbers) - 1) for value in values), np.int32)
        return cls(tuple(name for name in numbers if name is not None), codes)

    @classmethod
    def joined(cls, parts: Sequence[Coded]) -> Coded:
        """Several columns, one behind the other."""
        numbers: dict[str, int] = {}
        codes = []
        for part in parts:
            renumbered = [numbers.setdefault(name, len(numbers)) for name in part.names]
            codes.append(np.array([*renumbered, NONE], np.int32)[part.codes])  # -1 is the last one
        return cls(tuple(numbers), np.concatenate([np.empty(0, np.int32), *codes]))

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: NDArray[np.integer[Any]]) -> Coded:
        """The values of some rows."""
        return Coded(self.names, self.codes[rows])

    def only(self, wanted: NDArray[np.bool_]) -> Coded:
        """The values of the clips that are wanted, None for all others."""
        return Coded(self.names, np.where(wanted, self.codes, NONE).astype(np.int32))

    def array(self) -> NDArray[np.object_]:
        """The value of each clip."""
        return objects([*self.names, None])[self.codes]

    def values(self) -> list[Any]:
        """The value of each clip."""
        if len(self) < len(self.names):  # few of many clips
            return [None if code == NONE else self.names[code] for code in self.codes.tolist()]
        values: list[Any] = self.array().tolist()
        return values

    def equal(self, name: str) -> NDArray[np.bool_]:
        """Which clips have this value."""
        return np.equal(self.codes, self.names.index(name) if name in self.names else -2)

    def present(self) -> list[str]:
        """The different values of these clips, in the order of `names`."""
        return [self.names[code] for code in np.unique(self.codes).tolist() if code != NONE]


def objects(values: Sequence[object]) -> NDArray[np.object_]:
    """An array of objects, whatever they are: NumPy would look into sequences."""
    array = np.empty(len(values), object)
    array[:] = values
    return array
