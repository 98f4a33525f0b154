"""Groups of clips: by speaker, gender, language and length, and by any column of a user's table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from emonet.clips import Clip
from emonet.corpora import ClipNames, gender_of
from emonet.errors import RequestError, raise_collected
from emonet.tables import as_name, is_missing, read_rows

BANDS: Final = (2.0, 4.0, 8.0, 16.0)  # seconds, between lengths
_KEYS: Final = ("id", "clip", "speaker")


@dataclass(frozen=True)
class Grouping:
    """One way to divide clips.

    Args:
        name: e.g. `gender`.
        groups: that of each clip; None where it is not known.
    """

    name: str
    groups: tuple[str | None, ...]

    @property
    def sizes(self) -> Mapping[str, int]:
        """Clips of each group (count), in the order in which figures show them."""
        counts = Counter(group for group in self.groups if group is not None)
        order = [*_band_names(), *sorted(counts)] if self.name == "length" else sorted(counts)
        return {group: counts[group] for group in dict.fromkeys(order) if group in counts}


def usual_groupings(clips: Sequence[Clip]) -> tuple[Grouping, ...]:
    """By speaker, gender (where the corpus publishes it), language and length, as far as it is known of any clip."""
    found = (
        Grouping("speaker", tuple(clip.speaker for clip in clips)),
        Grouping("gender", tuple(gender_of(clip.speaker) for clip in clips)),
        Grouping("language", tuple(None if clip.language == "und" else clip.language for clip in clips)),
        Grouping("length", tuple(_band(clip.seconds) for clip in clips)),
    )
    return tuple(one for one in found if one.sizes)


def read_groupings(path: Path, clips: Sequence[Clip], *, columns: Sequence[str] = ()) -> tuple[Grouping, ...]:
    """One grouping for each column of a table that has a column `id` (or `clip`) or `speaker`.

    Args:
        path: .csv, .jsonl or .parquet; clips and speakers are found by their ids, with or without the corpus before.
        clips: to be divided; clips that the table does not have are in no group.
        columns: to group by; by default all others.

    Raises:
        RequestError: if the file cannot be read, has no such columns, puts a clip into two groups, or groups no clip.
    """
    names, groups, problems = ClipNames(clips), dict[str, dict[int, str]](), []
    key = None
    for row in read_rows(path):
        key = next((name for name in _KEYS if name in row.cells), None)
        if row.damage is not None or key is None:
            problems.append(f"{row.place}: {row.damage or 'no column ' + ' or '.join(_KEYS)}")
            continue
        named = as_name(row.cells[key])
        rows = [] if named is None else names.speaker(named) if key == "speaker" else names.clips(named)
        for column, value in row.cells.items():
            if column in _KEYS or (columns and column not in columns) or is_missing(value):
                continue
            group = as_name(value)
            if group is None:
                problems.append(f"{row.place}: {column} is no text and no number")
                continue
            known = groups.setdefault(column, {})
            if other := {known[clip] for clip in rows if known.setdefault(clip, group) != group}:
                problems.append(f"{row.place}: {named!r} is {group!r} by {column}, and {min(other)!r} in another row")
    problems += [f"no group is in a column {column!r}" for column in columns if column not in groups]
    raise_collected(f"the groups of {path} cannot be used", problems)
    found = tuple(Grouping(name, tuple(known.get(at) for at in range(len(clips)))) for name, known in groups.items())
    if not any(one.sizes for one in found):
        raise RequestError(
            "the table groups none of these clips",
            where=path,
            expected=f"a column {' or '.join(_KEYS)} such as {clips[0].id!r} or {clips[0].speaker!r}, and others",
            found=", ".join(groups) or "no other columns",
        )
    return tuple(one for one in found if one.sizes)


def _band(seconds: float) -> str | None:
    return None if math.isnan(seconds) else _band_names()[sum(seconds >= edge for edge in BANDS)]


def _band_names() -> list[str]:
    middle = [f"{low:g} to {high:g} s" for low, high in pairwise(BANDS)]
    return [f"below {BANDS[0]:g} s", *middle, f"from {BANDS[-1]:g} s"]
