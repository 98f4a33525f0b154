"""Leaks between splits: speakers, and ids that look like one person's, and recordings that two splits share."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

OVERLAP = 0.01  # seconds that parts of a recording may share: times in tables are rounded
_SHOWN = 3  # examples in one message
_ZEROS = re.compile(r"(?<![\d.])0+(?=\d)")
_FRACTION = re.compile(r"\.0+$")
ALIKE = "leading zeros, case, spaces or Unicode form"

Splits = Mapping[str, Iterable[str]]
"""Speaker -> the splits of the speaker's clips."""


def person(speaker: str) -> str:
    """What ids of one person have in common, however a table writes them: `07`, `7` and `7.0`, `Eve` and `eve `."""
    text = speaker
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    return _ZEROS.sub("", _FRACTION.sub("", "".join(text.casefold().split())))


def shared_speakers(splits: Splits) -> list[str]:
    """What is wrong with speakers whose clips lie in several splits; one line for all that only look like one."""
    problems = [
        f"speaker {speaker!r} is in {' and '.join(sorted(found))}; a speaker belongs to one split"
        for speaker, found in sorted(splits.items())
        if len(set(found)) > 1
    ]
    alike = _alike(splits)
    apart = [names for names in alike if len({split for name in names for split in splits[name]}) > 1]
    if apart:
        rest = len(alike) - len(apart)
        shown = [
            " and ".join(f"{name!r} ({', '.join(sorted(splits[name]))})" for name in names) for names in apart[:_SHOWN]
        ]
        problems.append(
            f"{_people(apart)} would be in several splits under ids that differ only in {ALIKE}: "
            f"{_listed(shown, len(apart))}{f' ({rest} more lie in one split each)' if rest else ''}; "
            "write each person's id in one way, or, if they are different people, in ways that differ in more than that"
        )
    return problems


def doubtful_speakers(splits: Splits) -> list[str]:
    """What should be known of speakers whose ids look like one person's and who share a split: no leak, but a doubt."""
    together = [names for names in _alike(splits) if len({split for name in names for split in splits[name]}) == 1]
    if not together:
        return []
    shown = _listed([" and ".join(map(repr, names)) for names in together[:_SHOWN]], len(together))
    return [f"{_people(together)} may have several ids, which differ only in {ALIKE}: {shown}"]


def shared_recordings(
    groups: Sequence[int], spans: Sequence[tuple[float, float]], splits: Sequence[str], ids: Sequence[str]
) -> list[str]:
    """One line if parts of one recording that overlap are in different splits, else none.

    Args:
        groups: which recording each clip is of, as a number; equal where the file is.
        spans: where each starts and ends in it (seconds).
        splits: of the clips.
        ids: of the clips.
    """
    found = list(_overlaps(np.asarray(groups), spans, splits))
    if not found:
        return []
    shown = [f"{ids[a]!r} ({splits[a]}) and {ids[b]!r} ({splits[b]})" for a, b in found[:_SHOWN]]
    return [
        f"the same recording is in two splits: {_listed(shown, len(found))}; "
        "a recording belongs to one split (a column `split` decides)"
    ]


def _overlaps(
    groups: np.ndarray, spans: Sequence[tuple[float, float]], splits: Sequence[str]
) -> Iterator[tuple[int, int]]:
    """Pairs of clips of one recording that overlap, for each clip the last one of another split before it."""
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    several = np.flatnonzero(counts[place] > 1).tolist()
    last: dict[tuple[int, str], tuple[float, int]] = {}  # recording and split -> the latest end so far, and whose
    for row in sorted(several, key=lambda row: (groups[row], *spans[row])):
        start, end = spans[row]
        recording = int(groups[row])
        for split in {split for split in ("train", "validation", "test") if split != splits[row]}:
            until, other = last.get((recording, split), (-np.inf, -1))
            if until - start > OVERLAP:
                yield other, row
        last[recording, splits[row]] = max(last.get((recording, splits[row]), (-np.inf, -1)), (end, row))


def _alike(splits: Splits) -> list[list[str]]:
    """Speakers whose ids look like one person's, person by person."""
    people: dict[str, list[str]] = defaultdict(list)
    for speaker in splits:
        people[person(speaker)].append(speaker)
    return [sorted(names) for names in people.values() if len(names) > 1]


def _people(groups: Sequence[object]) -> str:
    return "what looks like one speaker" if len(groups) == 1 else f"what look like {len(groups)} speakers"


def _listed(shown: Sequence[str], count: int) -> str:
    return "; ".join(shown) + (f"; and {count - len(shown)} more" if count > len(shown) else "")
