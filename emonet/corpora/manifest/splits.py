"""Speaker-disjoint splits for corpora that come without one."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable

from emonet.clips import Split, person
from emonet.errors import RequestError

SHARE = 0.15  # of the speakers, for validation and for test each


def split_speakers(speakers: Iterable[str], where: object = None) -> dict[str, Split]:
    """Deal the speakers out to test, validation (15 % each, at least one) and train.

    They are dealt in the order of SHA-256 over their names, which depends on nothing but the speakers. Names that look
    like one person's (`07` and `7`) are dealt as one, by the first of them.

    Args:
        speakers: their names, in any order, repeated or not.
        where: what an error names, e.g. the manifest.

    Raises:
        RequestError: if there are fewer than three speakers.
    """
    people: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(speakers)):
        people[person(name)].append(name)
    names = sorted((names[0] for names in people.values()), key=_order)
    if len(names) < 3:
        raise RequestError(
            "too few speakers for a speaker-disjoint split",
            where=where,
            expected="at least 3: one each for train, validation and test",
            found=f"{len(names)} ({', '.join(names)})",
            hint="record more speakers, or decide yourself with a column `split`",
        )
    held_out = max(1, round(SHARE * len(names)))
    return {
        name: "test" if rank < held_out else "validation" if rank < 2 * held_out else "train"
        for rank, first in enumerate(names)
        for name in people[person(first)]
    }


def _order(name: str) -> bytes:
    return hashlib.sha256(f"emonet split:{name}".encode("utf-8", "surrogatepass")).digest()
