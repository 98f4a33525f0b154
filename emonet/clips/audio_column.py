"""Where the audio of many clips is, as columns: files by their paths, parts of files and objects, audio in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from os import fspath
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from emonet.clips.audio import Audio, AudioCell, AudioRange, file_identity, holder_identity
from emonet.clips.coded import NONE, Coded, objects


@final
@dataclass(frozen=True, eq=False)
class Places:
    """Where audio is inside of files or objects; -1 for clips of which something is not so.

    Args:
        start: first byte of a range.
        size: of a range or cell (bytes).
        column: of a cell.
        row_group: of a cell.
        row: of a cell in its row group.
    """

    start: NDArray[np.int64]
    size: NDArray[np.int64]
    column: Coded
    row_group: NDArray[np.int64]
    row: NDArray[np.int64]

    @classmethod
    def of(cls, audios: Sequence[Audio]) -> Places:
        """Those of ranges and cells; -1 for all else."""
        numbers = {name: _numbers([getattr(one, name, NONE) for one in audios]) for name in _PLACES}
        return cls(column=Coded.of(getattr(one, "column", None) for one in audios), **numbers)

    @classmethod
    def nowhere(cls, clips: int) -> Places:
        """Of so many clips that are files or bytes."""
        nothing = np.full(clips, NONE, np.int64)
        return cls(nothing, nothing, Coded((), nothing.astype(np.int32)), nothing, nothing)

    @classmethod
    def joined(cls, parts: Sequence[Places]) -> Places:
        """Several, one behind the other."""
        numbers = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _PLACES}
        return cls(column=Coded.joined([part.column for part in parts]), **numbers)

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Which clips are inside of something."""
        return np.asarray((self.start != NONE) | (self.column.codes != NONE), bool)

    def take(self, rows: NDArray[np.int64]) -> Places:
        """Those of some rows."""
        return Places(column=self.column.take(rows), **{name: getattr(self, name)[rows] for name in _PLACES})


_PLACES = tuple(field.name for field in fields(Places) if field.type != "Coded")


@final
@dataclass(frozen=True, eq=False)
class AudioColumn:
    """The audio of clips.

    Args:
        location: path of the file, or path or URL of what holds it; None for audio in memory.
        places: where it is in there; None where all clips are files or in memory.
        held: the bytes of each clip that is in memory, else None; None where none is.
    """

    location: Coded
    places: Places | None = None
    held: NDArray[np.object_] | None = None

    @classmethod
    def of(cls, audios: Sequence[Audio]) -> AudioColumn:
        """The column of so many clips' audio."""
        held = [isinstance(one, bytes) for one in audios]
        inside = any(isinstance(one, AudioRange | AudioCell) for one in audios)
        return cls(
            Coded.of(map(_location, audios)),
            Places.of(audios) if inside else None,
            objects([one if isinstance(one, bytes) else None for one in audios]) if any(held) else None,
        )

    @classmethod
    def joined(cls, parts: Sequence[AudioColumn]) -> AudioColumn:
        """Several columns, one behind the other."""
        places = held = None
        if any(part.places is not None for part in parts):
            places = Places.joined([part.places or Places.nowhere(len(part)) for part in parts])
        if any(part.held is not None for part in parts):
            held = np.concatenate([objects([None] * len(part)) if part.held is None else part.held for part in parts])
        return cls(Coded.joined([part.location for part in parts]), places, held)

    def __len__(self) -> int:
        return len(self.location)

    def sized(self, sizes: Mapping[str, int | None]) -> AudioColumn:
        """The same with the sizes of whole objects whose size was not known (-1), by their locations."""
        if self.places is None or not sizes:
            return self
        of_location = [sizes.get(name) for name in self.location.names]
        known = np.array([*(NONE if size is None else size for size in of_location), NONE], np.int64)
        size = np.where(self.places.size < 0, known[self.location.codes], self.places.size)
        return replace(self, places=replace(self.places, size=size))

    def take(self, rows: NDArray[np.int64]) -> AudioColumn:
        """The audio of some rows."""
        return AudioColumn(
            self.location.take(rows),
            None if self.places is None else self.places.take(rows),
            None if self.held is None else self.held[rows],
        )

    def values(self) -> list[Audio]:
        """The audio of each clip."""
        paths: dict[str | None, Path] = {}
        found = []
        for row, location in enumerate(self.location.values()):
            if location is not None and location not in paths:
                paths[location] = Path(location)
            found.append(self._value(row, location, paths.get(location)))
        return found

    def _value(self, row: int, location: str | None, path: Path | None) -> Audio:
        if location is None or path is None:
            assert self.held is not None
            content: bytes = self.held[row]
            return content
        if self.places is None:
            return path
        places = self.places
        size = int(places.size[row])
        if (column := places.column.codes[row]) == NONE:
            start = int(places.start[row])
            return path if start == NONE else AudioRange(location, start, size)
        return AudioCell(location, places.column.names[column], int(places.row_group[row]), int(places.row[row]), size)

    def recordings(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which recording each clip is of, by a number; its size in bytes, or -1 where it is no file or is not there.

        The same file has one number, under whatever path; audio in memory has one for each clip.
        """
        codes = self.location.codes
        wholes = np.unique(codes if self.places is None else codes[~self.places.inside]).tolist()
        numbers: dict[object, int] = {}
        of_file, sizes = (np.full(len(self.location.names) + 1, NONE, np.int64) for _ in range(2))
        for code in wholes:
            if code != NONE:
                identity, sizes[code] = file_identity(self.location.names[code])
                of_file[code] = numbers.setdefault(identity, len(numbers))
        groups, bytes_of = of_file[codes], sizes[codes]
        if self.places is not None:
            inside = np.flatnonzero(self.places.inside)
            holders = {code: holder_identity(self.location.names[code]) for code in np.unique(codes[inside]).tolist()}
            for row in inside.tolist():
                groups[row] = numbers.setdefault((holders[codes[row]], *self._inside(row)), len(numbers))
                bytes_of[row] = self.places.size[row]
        in_memory = np.flatnonzero(codes == NONE)
        groups[in_memory] = len(numbers) + np.arange(len(in_memory))
        return groups, bytes_of

    def _inside(self, row: int) -> Iterator[int]:
        """What tells audio inside of a file or object from all else in there."""
        assert self.places is not None
        places, column = self.places, self.places.column.codes[row]
        return map(int, (places.start[row],) if column == NONE else (column, places.row_group[row], places.row[row]))


def _numbers(values: Sequence[int]) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def _location(audio: Audio) -> str | None:
    if isinstance(audio, bytes):
        return None
    return audio.location if isinstance(audio, AudioRange | AudioCell) else fspath(audio)
