"""Tables of recordings to be scored, with any columns; only those that name a recording and its part are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emonet.clips import Audio, AudioCell, AudioRange
from emonet.corpora.manifest.finding import Finder, folder_of
from emonet.corpora.manifest.rows import Cells
from emonet.errors import RequestError, brief, raise_collected, shortened
from emonet.names import as_text
from emonet.tables import AUDIO_NAMES, Problems, read_rows


@dataclass(frozen=True, slots=True)
class TableRecording:
    """What a row of a table names.

    Args:
        audio: path or address of the recording, which may not exist, or where it is in the table.
        name: as the table has it, else the row's place.
        start: where the part begins, in seconds; None is the beginning.
        end: where it ends, in seconds; None is the end.
        cells: column -> what stands in it, as the table has it.
    """

    audio: Audio
    name: str
    start: float | None
    end: float | None
    cells: Mapping[str, Any]


def read_recordings(path: Path) -> list[TableRecording]:
    """Read a table of recordings: a column `audio` (or `file`, `path` ...), and perhaps `start` and `end`.

    Recordings that are not found are among them: whoever hears them says so.

    Args:
        path: a `.csv`, `.tsv`, `.jsonl` or `.parquet` file; relative names start from its folder.

    Raises:
        RequestError: if the table cannot be read, has no row, does not say where the recordings are, or has times that
            are none; all problems with their lines.
    """
    finder, problems, found = Finder(folder_of(str(path))), Problems(), []
    for row in read_rows(path, "the table of recordings", held=AudioCell):
        if row.damage is not None:
            problems.add(row.place, row.damage, ("row", row.damage))
            continue
        fields = _fields(list(row.cells), path)
        cells = Cells(row.place, {field: row.cells[column] for field, column in fields.items()}, problems)
        name, content = cells.audio()
        start, end = cells.span()
        absent = Cells(row.place, {}, Problems())  # that a file is absent is told when it is heard
        audio = finder.locate(name, absent) if content is None else content
        found.append(TableRecording(audio, name or row.place, start, end, row.cells))
    count = f"{len(problems)} problem{'s' * (len(problems) != 1)}"
    raise_collected(f"the table of recordings has {count}", problems.lines(), where=as_text(path))
    if not found:
        raise RequestError("the table of recordings has no row", where=as_text(path))
    sizes = finder.object_sizes()
    return [_with_size(one, sizes) for one in found] if sizes else found


def _with_size(one: TableRecording, sizes: Mapping[str, int | None]) -> TableRecording:
    """The recording with the size of its object, if it is one; that one is not there is told when it is heard."""
    if not isinstance(one.audio, AudioRange) or (size := sizes.get(one.audio.location)) is None:
        return one
    return replace(one, audio=replace(one.audio, size=size))


def _fields(columns: list[str], path: Path) -> dict[str, str]:
    """Field -> column that holds it.

    Raises:
        RequestError: if no column names the recordings, or several do.
    """
    spelled: dict[str, list[str]] = {}
    for column in columns:
        spelled.setdefault(column.strip().casefold(), []).append(column)
    named = spelled.get("audio") or [one for name in spelled if name in AUDIO_NAMES for one in spelled[name]]
    if len(named) != 1:
        several = f"several columns may name the recordings: {shortened(list(map(brief, named)))}"
        raise RequestError(
            several if named else f"no column names the recordings; found: {shortened(columns)}",
            where=as_text(path),
            expected="one column `audio` (or `file`, `path` ...)",
        )
    return {"audio": named[0], **{name: spelled[name][0] for name in ("start", "end") if name in spelled}}
