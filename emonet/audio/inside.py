"""Audio inside of something larger: members of tars, cells of Parquet files, objects; read where it is decoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emonet.clips import Audio, AudioCell, AudioRange, stamp_of
from emonet.errors import AudioError
from emonet.objects import WHOLE, Ranges, is_url, patience, read_range
from emonet.tables import cells_of

_OPEN = 4  # Parquet files whose rows are followed at a time


def patience_for(audio: Audio, timeout: float) -> float:
    """Seconds to wait for one that decodes: a store that does not answer must not look like a recording that hangs.

    Args:
        audio: what is decoded.
        timeout: for decoding alone, in seconds.
    """
    if isinstance(audio, AudioRange | AudioCell) and is_url(audio.location):
        return timeout + patience()
    return timeout


def audio_bytes(audio: Audio) -> bytes | Path:
    """The encoded bytes of audio, read from where they are; a path stays one.

    Args:
        audio: as clips have it.

    Raises:
        AudioError: if it is not there any more, or cut short.
        EmonetError: if the store that it is in cannot be used, or does not answer.
    """
    if isinstance(audio, AudioRange):
        return _range(audio, 0, audio.size)
    return _cell(audio) if isinstance(audio, AudioCell) else audio


def held(audio: Audio) -> Audio:
    """Audio that is opened more than once, read once if it is not long; a path stays one.

    Raises:
        AudioError, EmonetError: as `audio_bytes`.
    """
    is_long = isinstance(audio, AudioRange) and audio.size > WHOLE
    return audio if is_long else audio_bytes(audio)


def lazily(audio: AudioRange) -> Ranges:
    """The bytes of a range, each read when it is looked at.

    Raises:
        AudioError: if its size says that it is not there (below 0).
    """
    if audio.size < 0:
        raise _gone(audio)
    return Ranges(lambda start, size: _range(audio, start, size), audio.size)


def _gone(audio: AudioRange) -> AudioError:
    return AudioError("no such object" if is_url(audio.location) else "no such file", where=audio)


def _range(audio: AudioRange, start: int, size: int) -> bytes:
    if size < 0:
        raise _gone(audio)
    try:
        found = read_range(audio.location, audio.start + start, size)
    except FileNotFoundError as error:
        raise _gone(audio) from error
    except OSError as error:
        raise AudioError(f"cannot be opened: {error.strerror or error}", where=audio) from error
    if len(found) < size:
        what = f"truncated: {start + len(found):,} of {audio.size:,} bytes are there"
        raise AudioError(what, where=audio, hint="copy or download the file again")
    return found


def _cell(audio: AudioCell) -> bytes:
    import pyarrow as pa

    try:
        version = None if is_url(audio.location) else stamp_of(audio.location)  # of objects nothing is asked
        key = (version, audio.location, audio.column, audio.row_group)
        rows = _followed.pop(key, None)
        if rows is None or audio.row < rows.first:
            rows = _Rows(cells_of(audio.location, audio.column, audio.row_group))
        content = rows.go_to(audio.row)
    except FileNotFoundError as error:
        raise AudioError("no such file", where=audio) from error
    except (OSError, pa.ArrowException, LookupError, StopIteration) as error:
        what = f"the table of the recording cannot be read: {str(error) or 'it has fewer rows'}"
        raise AudioError(what, where=audio) from error
    _followed[key] = rows
    while len(_followed) > _OPEN:
        del _followed[next(iter(_followed))]
    if content is None or len(content) != audio.size:
        found = "none" if content is None else f"{len(content):,}"
        raise AudioError(f"the table has changed: {found} of {audio.size:,} bytes are in its cell", where=audio)
    return content


@dataclass
class _Rows:
    """Goes through the cells of a row group, forwards, since pages before a cell have to be decoded anyway."""

    batches: Iterator[Any]
    cells: Any = ()
    first: int = 0

    def go_to(self, row: int) -> bytes | None:
        while row >= self.first + len(self.cells):
            self.first += len(self.cells)
            self.cells = next(self.batches)
        content: bytes | None = self.cells[row - self.first].as_py()
        return content


_followed: dict[tuple[object, ...], _Rows] = {}  # of this process
