"""What one pass over a file of segments finds, and its text in whichever encoding."""

from __future__ import annotations

import codecs
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field

from emonet.names import as_text
from emonet.segments.segment import Segment
from emonet.tables import Problems

MOST_CHANNELS = 65_536  # what a header of a recording can hold
_LINE_END = re.compile(r"\r\n|\r|\n")
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass
class Reading:
    """Segments of the recordings that a file names, and what is wrong in it.

    Args:
        problems: each with its place, e.g. `line 3`.
        segments: recording -> its segments, in the order of the file; "" where the format names none.
    """

    problems: Problems = field(default_factory=Problems)
    segments: dict[str, list[Segment]] = field(default_factory=dict)

    def add(
        self,
        place: str,
        start: float,
        end: float,
        *,
        recording: str = "",
        speaker: str = "",
        channel: int | None = None,
        text: str = "",
    ) -> None:
        """Take a segment, or note why it is none.

        Args:
            place: that a problem names.
            start: in seconds.
            end: in seconds.
            recording: its name in the file.
            speaker: as `Segment` has it.
            channel: as `Segment` has it.
            text: as `Segment` has it.
        """
        if not (math.isfinite(start) and math.isfinite(end)):
            self.problems.add(place, f"{start:g} to {end:g} s is no part of a recording", "finite")
        elif start < 0:
            self.problems.add(place, f"starts at {start:g} s, before the recording begins", "before")
        elif not start < end:
            self.problems.add(place, f"ends at {end:g} s, which is not behind its start at {start:g} s", "order")
        else:
            segment = Segment(start, end, one_line(speaker), channel, one_line(text))
            self.segments.setdefault(recording, []).append(segment)


def decoded(content: bytes) -> str:
    """The text of a file: UTF-8, or UTF-16 as Praat writes it, with or without a byte order mark.

    Raises:
        UnicodeDecodeError: if it is neither.
    """
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            return content.decode(encoding)
    first, second = content[0:200:2], content[1:200:2]
    if first.count(0) > len(first) // 2:
        return content.decode("utf-16-be")
    if second.count(0) > len(second) // 2 > 0:
        return content.decode("utf-16-le")
    return content.decode("utf-8")


def numbered(text: str) -> Iterator[tuple[str, str]]:
    """The lines of a text, each with its place, whatever they end with."""
    for number, line in enumerate(_LINE_END.split(text), start=1):
        yield f"line {number}", line


def one_line(text: str) -> str:
    """Text as a label: on one line, in valid Unicode, without control characters."""
    words = " ".join(as_text(text).split())
    if words.isprintable():
        return words
    return " ".join("".join(c for c in words if unicodedata.category(c) != "Cc" and c not in "\ufffe\uffff").split())
