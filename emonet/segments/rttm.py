"""RTTM: who speaks when, a line each, as diarisation writes it (NIST, Rich Transcription 2009)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from emonet.errors import brief
from emonet.segments.reading import MOST_CHANNELS, Reading, numbered, one_line
from emonet.segments.segment import Segment
from emonet.tables import as_number

_FIELDS = 9  # SPEAKER file channel start duration <NA> <NA> speaker <NA>; the tenth, a look-ahead, is younger
_NOTHING = "<NA>"


def read_rttm(text: str, reading: Reading) -> None:
    """Take the `SPEAKER` lines; lines of other types are passed over.

    Channels count from 1. Most programs write 1 into all lines, whatever they heard: then the channel is not known.
    """
    lines = []
    for place, line in numbered(text):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue
        if len(fields) < _FIELDS:
            told = f"{len(fields)} fields where a SPEAKER line has {_FIELDS} or {_FIELDS + 1}"
            reading.problems.add(place, told, ("fields", len(fields)))
            continue
        start, seconds = (as_time(fields[at], name, place, reading) for at, name in ((3, "start"), (4, "duration")))
        channel = 1 if fields[2] == _NOTHING else as_number(fields[2])
        if channel is None or not 1 <= channel <= MOST_CHANNELS or channel % 1:
            told = f"channel {brief(fields[2])} is none: they are counted from 1"
            reading.problems.add(place, told, "channel")
        elif start is not None and seconds is not None:
            lines.append((place, fields, start, seconds, int(channel) - 1))
    several = len({channel for *_, channel in lines}) > 1
    for place, fields, start, seconds, channel in lines:
        reading.add(
            place,
            start,
            round(start + seconds, 9),
            recording=fields[1],
            speaker="" if fields[7] == _NOTHING else fields[7],
            channel=channel if several else None,
        )


def as_time(cell: str, name: str, place: str, reading: Reading) -> float | None:
    """A number of seconds, which may be infinite or none (NaN); text that is no number is noted."""
    try:
        return float(cell)
    except ValueError:
        reading.problems.add(place, f"{name} {brief(cell)} is no number of seconds", (name, "number"))
        return None


def rttm_text(segments: Sequence[Segment], recording: str, seconds: float) -> str:  # noqa: ARG001 as other formats
    """Segments as RTTM: microseconds, channels from 1, `_` in place of spaces in names, no texts."""
    return "".join(
        f"SPEAKER {_word(Path(recording).stem)} {1 + (one.channel or 0)} {one.start:.6f} "
        f"{max(one.seconds, 1e-6):.6f} {_NOTHING} {_NOTHING} {_word(one.speaker)} {_NOTHING} {_NOTHING}\n"
        for one in segments
    )


def _word(name: str) -> str:
    return one_line(name).replace(" ", "_") or _NOTHING
