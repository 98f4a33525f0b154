"""What is to be scored: files, rows of a table, segments of files, and channels of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emonet.audio import AudioInfo, Excerpt, shared_decoders
from emonet.corpora import read_recordings, unspelled
from emonet.errors import RequestError
from emonet.names import as_text
from emonet.segments import Segment, read_segments
from emonet.tables import SUFFIXES
from experiments.core import console
from experiments.predict.finding import find_audio
from experiments.predict.owners import owners_of

if TYPE_CHECKING:
    from experiments.arguments import PredictArguments


@dataclass(frozen=True, slots=True)
class Asked:
    """One row of the answer.

    Args:
        excerpt: what is heard.
        name: of the recording.
        speaker: who speaks, where segments say so.
        text: what is said, where segments say so.
        cells: of the table's row; None where no table was named.
        position: of that row, from 0.
        error: why it cannot be heard.
    """

    excerpt: Excerpt
    name: str
    speaker: str | None = None
    text: str | None = None
    cells: Mapping[str, Any] | None = None
    position: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """All that is asked.

    Args:
        rows: of the answer, in order.
        in_parts: whether rows are parts of files, or a table's.
        table: that was named; its columns are kept.
        passed_over: suffix -> files of the named folders that are no audio (count).
    """

    rows: tuple[Asked, ...]
    in_parts: bool
    table: Path | None
    passed_over: dict[str, int]


def read_request(arguments: PredictArguments) -> Request:
    """What the named files, segments and channels ask for.

    Raises:
        RequestError: if nothing is named, or something does not exist, or does not fit together.
    """
    tables = [path for path in map(unspelled, arguments.files) if path.suffix.lower() in SUFFIXES and path.is_file()]
    if tables:
        _refuse_beside_table(arguments, tables)
        found = read_recordings(tables[0])
        rows = [
            Asked(Excerpt(one.audio, one.start, one.end), as_text(one.name), cells=one.cells, position=at)
            for at, one in enumerate(found)
        ]
        return Request(tuple(_in_channels(rows, arguments)), True, tables[0], {})
    files = find_audio(arguments.files)
    rows = [Asked(Excerpt(file), as_text(file)) for file in files.files]
    if arguments.segments is not None:
        rows = list(_in_segments(rows, arguments.segments))
    rows = list(_in_channels(rows, arguments))
    rows += [Asked(Excerpt(folder), as_text(folder), error=why) for folder, why in files.closed]
    in_parts = arguments.segments is not None or arguments.channels == "each"
    return Request(tuple(rows), in_parts, None, files.passed_over)


def _refuse_beside_table(arguments: PredictArguments, tables: Sequence[Path]) -> None:
    if len(arguments.files) > 1:
        what = "a table of recordings stands alone: its columns are kept"
        raise RequestError(what, where=as_text(tables[0]), found=f"{len(arguments.files)} files and folders")
    if arguments.segments is not None:
        what = "a table of recordings has its own segments, in columns start and end"
        raise RequestError(what, where=as_text(tables[0]), found=f"--segments {as_text(arguments.segments)}")


def _in_segments(rows: Sequence[Asked], path: Path) -> Iterator[Asked]:
    """Each recording's segments.

    Raises:
        RequestError: if the segments cannot be read, or are of other recordings.
    """
    found = read_segments(path)
    owners = owners_of([row.name for row in rows], found, path)
    _tell_overlaps(found[name] for name in owners.values())
    for row in rows:
        name = owners.get(row.name)
        if name is None:
            yield replace(row, error=f"{as_text(path.name)} has no segment of it")
            continue
        for one in found[name]:
            excerpt = Excerpt(row.excerpt.audio, one.start, one.end, one.channel)
            yield Asked(excerpt, row.name, one.speaker or None, one.text or None)


def _tell_overlaps(found: Iterable[Sequence[Segment]]) -> None:
    count = 0
    for segments in found:
        reached = 0.0
        for one, after in pairwise(segments):
            reached = max(reached, one.end)
            count += after.start < reached
    if count:
        begin = "1 segment begins" if count == 1 else f"{count} segments begin"
        console.say(f"note: {begin} before another one ends; each is scored with all that is heard in it")


def _in_channels(rows: Sequence[Asked], arguments: PredictArguments) -> Iterator[Asked]:
    """With `--channels each`: every row once for each channel of its recording, unless it names one."""
    if arguments.channels == "mix":
        yield from rows
        return
    files = list(dict.fromkeys(row.excerpt.audio for row in rows))
    infos = dict(zip(files, shared_decoders().probe(map(Excerpt, files)), strict=True))
    for row in rows:
        info = infos[row.excerpt.audio]
        if row.error is not None or row.excerpt.channel is not None:
            yield row
        elif isinstance(info, AudioInfo):
            for channel in range(info.channels):
                yield replace(row, excerpt=replace(row.excerpt, channel=channel))
        else:
            yield replace(row, error=info.reason)
