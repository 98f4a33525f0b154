"""Segments as a table: columns start and end, and file, speaker, channel and text where they are known."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from emonet.errors import RequestError, brief, shortened
from emonet.names import as_text
from emonet.segments.reading import MOST_CHANNELS, Reading, one_line
from emonet.segments.segment import Segment
from emonet.tables import AUDIO_NAMES, Row, as_cell_text, as_name, as_number, as_seconds, is_missing, read_rows

_FIELDS = ("start", "end", "speaker", "channel", "text")


def read_table(path: Path, reading: Reading) -> None:
    """Take each row; times are written in any way that `as_seconds` reads; other columns are passed over.

    Raises:
        RequestError: if the table cannot be read, or has no column `start` or `end`.
    """
    for row in read_rows(path, "the table of segments"):
        if row.damage is not None:
            reading.problems.add(row.place, row.damage, ("row", row.damage))
            continue
        fields = {_field(column): value for column, value in row.cells.items()}
        for name in ("start", "end"):
            if row.header is not None and name not in fields:
                raise RequestError(
                    f"there is no column `{name}`; found: {shortened(list(map(str, row.cells)))}",
                    where=as_text(path),
                    hint="columns start, end (seconds), and, as far as they are known, file, speaker, channel, text",
                )
        _take(Row(row.place, fields), reading)


def _field(column: str) -> str:
    name = column.strip().casefold()
    return "file" if name in AUDIO_NAMES | {"audio"} else name


def _take(row: Row, reading: Reading) -> None:
    start, end = (_seconds(row, name, reading) for name in ("start", "end"))
    channel = row.cells.get("channel")
    number = None if is_missing(channel) else as_number(channel)
    if not is_missing(channel) and (number is None or not 0 <= number < MOST_CHANNELS or number % 1):
        reading.problems.add(row.place, f"channel {brief(channel)} is none: they are counted from 0", "channel")
    elif start is not None and end is not None:
        recording, speaker, text = (row.cells.get(name) for name in ("file", "speaker", "text"))
        reading.add(
            row.place,
            start,
            end,
            recording="" if is_missing(recording) else as_cell_text(recording) or "",
            speaker="" if is_missing(speaker) else as_name(speaker) or "",
            channel=None if number is None else int(number),
            text=text if isinstance(text, str) else "" if is_missing(text) else as_cell_text(text) or "",
        )


def _seconds(row: Row, name: str, reading: Reading) -> float | None:
    value = row.cells.get(name)
    if is_missing(value):
        reading.problems.add(row.place, f"{name} is missing", (name, "missing"))
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return value
    seconds = as_seconds(value)
    if seconds is None:
        told = f"{name} is {brief(value)}, which is no number of seconds and no time"
        reading.problems.add(row.place, told, (name, "number"))
    return seconds


def table_text(segments: Sequence[Segment], recording: str, seconds: float) -> str:  # noqa: ARG001 as other formats
    """Segments as CSV in seconds, to the last digit, with a column `file` where the recording has a name."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    file = [as_text(recording)] if recording else []
    writer.writerow([*(["file"] if file else []), *_FIELDS])
    for one in segments:
        channel = "" if one.channel is None else one.channel
        writer.writerow([*file, repr(one.start), repr(one.end), one_line(one.speaker), channel, one_line(one.text)])
    return written.getvalue()
