"""Exports of a timeline: tables, JSON, subtitles and tiers, by the file's suffix."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from emonet.inference import strongest_first
from emonet.runtime import durable
from emonet.segments import Segment, write_segments
from emonet.timelines.documents import timeline_to_json
from emonet.timelines.options import Format
from emonet.timelines.timeline import ScoredSegment, Timeline

if TYPE_CHECKING:
    import pandas as pd

NAMED = 3  # emotions in a text
_HEARD = 0.05  # of the scale: weaker emotions are named only if nothing else is there


def strongest_of(scored: ScoredSegment, timeline: Timeline, count: int = NAMED) -> tuple[str, ...]:
    """Ids of a segment's strongest emotions: by how far they are above the reference, else by the share of the scale.

    Emotions with high medians would win by scores alone.
    """
    spec = timeline.target_spec
    ordered = strongest_first(scored.scores, spec, scored.standardised)
    return tuple(name for name in ordered if name in spec.ranked)[:count]


def text_of(scored: ScoredSegment, timeline: Timeline) -> str:
    """A segment in words: its strongest emotions with their scores, what is doubtful, and its caption."""
    spec, first = timeline.target_spec, strongest_of(scored, timeline)
    shown = [name for name in first if spec[name].share(scored.scores[name]) >= _HEARD] or first[:1]
    named = ", ".join(f"{spec[name].name} {scored.scores[name]:.1f}" for name in shown)
    doubts = f" ({', '.join(scored.flags)})" if scored.flags else ""
    return " | ".join(filter(None, [f"{named}{doubts}", scored.caption]))


def timeline_table(timeline: Timeline) -> pd.DataFrame:
    """One row for each segment, by time.

    Columns: file, start, end (seconds), speaker, channel, text, flags, unfamiliarity and caption, then each target's
    score, with `TARGET.z` where the model has a reference population, and `TARGET.uncertainty` of ensembles.
    """
    import pandas as pd

    ids = timeline.target_spec.ids
    more: dict[str, Callable[[ScoredSegment], Mapping[str, float]]] = {
        "z": lambda one: one.standardised,
        "uncertainty": lambda one: one.uncertainties,
    }
    used = {suffix: of for suffix, of in more.items() if any(map(of, timeline.segments))}
    rows = [
        {
            "file": timeline.audio,
            "start": one.segment.start,
            "end": one.segment.end,
            "speaker": one.segment.speaker,
            "channel": one.segment.channel,
            "text": one.segment.text,
            "flags": "; ".join(one.flags),
            "unfamiliarity": one.unfamiliarity,
            "caption": one.caption,
            **one.scores,
            **{f"{name}.{suffix}": of(one).get(name, math.nan) for suffix, of in used.items() for name in ids},
        }
        for one in timeline.segments
    ]
    columns = ["file", "start", "end", "speaker", "channel", "text", "flags", "unfamiliarity", "caption", *ids]
    table = pd.DataFrame(rows, columns=[*columns, *(f"{name}.{suffix}" for suffix in used for name in ids)])
    return table.astype({"channel": "Int64", "unfamiliarity": "float64"})


def labelled_segments(timeline: Timeline) -> list[Segment]:
    """Segments with their strongest emotions as text; sliding windows share what overlaps in halves."""
    last: dict[tuple[str, int | None], int] = {}
    found: list[Segment] = []
    for one in timeline.segments:
        segment = replace(one.segment, text=text_of(one, timeline))
        who = (segment.speaker, segment.channel)
        before = last.get(who)
        if before is not None and segment.start < found[before].end:
            middle = (timeline.segments[before].segment.end + segment.start) / 2
            if found[before].start < middle < segment.end:
                found[before], segment = replace(found[before], end=middle), replace(segment, start=middle)
        last[who] = len(found)
        found.append(segment)
    return found


def _csv(path: Path, timeline: Timeline, _: Path | None) -> None:
    durable.write(path, timeline_table(timeline).to_csv(index=False).encode())


def _parquet(path: Path, timeline: Timeline, _: Path | None) -> None:
    buffer = io.BytesIO()
    timeline_table(timeline).to_parquet(buffer, index=False)
    durable.write(path, buffer.getvalue())


def _json(path: Path, timeline: Timeline, _: Path | None) -> None:
    text = json.dumps(timeline_to_json(timeline), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    durable.write(path, text.encode("utf-8", "surrogatepass"))


def _hume(path: Path, timeline: Timeline, audio: Path | None) -> None:
    from emonet.peers import Utterance, hume_source  # names of other models' labels, which nothing else here asks for

    heard = [
        Utterance(one.segment.start, one.segment.end, one.scores, one.segment.speaker or None, one.segment.text or None)
        for one in timeline.segments
    ]
    source = hume_source(timeline.audio, heard, timeline.target_spec, timeline.error, recording=audio)
    durable.write(path, json.dumps([source], ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass"))


def _segments(path: Path, timeline: Timeline, _: Path | None) -> None:
    write_segments(path, labelled_segments(timeline), recording=Path(timeline.audio).name, seconds=timeline.seconds)


def _page(path: Path, timeline: Timeline, audio: Path | None) -> None:
    from emonet.timelines.views import write_page  # draws with pages, which tables can do without

    # The sound of a recording that breaks off cannot be put into the page.
    write_page(path, timeline, audio=audio if timeline.error is None else None)


def _figure(path: Path, timeline: Timeline, _: Path | None) -> None:
    from emonet.timelines.views import timeline_figure  # half a second of matplotlib

    timeline_figure(timeline, path)


_WRITERS: Mapping[Format, Callable[[Path, Timeline, Path | None], None]] = {
    "csv": _csv,
    "parquet": _parquet,
    "json": _json,
    "html": _page,
    "png": _figure,
    "vtt": _segments,
    "srt": _segments,
    "eaf": _segments,
    "TextGrid": _segments,
    "rttm": _segments,
    "hume": _hume,
}
FORMATS = tuple(_WRITERS)
"""What a timeline can be written to: the suffixes of the files, but for `hume`, which is JSON, too."""


def suffix_of(written: str) -> str:
    """The suffix of the file that a timeline is written to."""
    return "hume.json" if written == "hume" else written


def write_timeline(
    timeline: Timeline, folder: Path, name: str, formats: Sequence[Format], audio: Path | None = None
) -> tuple[Path, ...]:
    """Write a timeline's files, each whole or not at all.

    Args:
        timeline: what is written.
        folder: where to; it is there.
        name: of the files, without a suffix.
        formats: of `FORMATS`.
        audio: the recording, for the page.

    Returns:
        The files.

    Raises:
        EmonetError: if the disk is full.
    """
    paths = tuple(folder / f"{name}.{suffix_of(one)}" for one in formats)
    for path, one in zip(paths, formats, strict=True):
        with durable.explained(path, what="the timeline", kept="every scored segment is kept"):
            _WRITERS[one](path, timeline, audio)
    return paths
