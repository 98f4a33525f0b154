"""Names of the files of timelines: those of the recordings, told apart where they would be the same."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

_LONGEST = 200  # bytes: file systems take 255, of which suffixes and partial files need some
_WAYS: tuple[Callable[[Path], str], ...] = (
    lambda path: path.stem,
    lambda path: path.name,
    lambda path: "__".join(path.resolve().parts[-3:]),
    lambda path: "__".join(path.resolve().parts[1:]),
)


def output_names(files: Sequence[Path]) -> dict[Path, str]:
    """Recording -> name of its files without a suffix: as short as it can be without being another's.

    Args:
        files: recordings; one that is named twice counts once.
    """
    found: dict[Path, str] = {}
    left = list(dict.fromkeys(files))
    for way in _WAYS:
        # Some file systems do not tell capitals from small letters.
        taken = {name.casefold() for name in found.values()}
        ours = {path: _fitting(way(path)) for path in left}
        counts = Counter(name.casefold() for name in ours.values())
        found |= {
            path: name for path, name in ours.items() if counts[name.casefold()] == 1 and name.casefold() not in taken
        }
        left = [path for path in left if path not in found]
    return found | {path: _fitting(f"{number}__{path.name}") for number, path in enumerate(left)}


def _fitting(name: str) -> str:
    """A name that is not too long for a file system: its beginning, told apart by a digest."""
    if len(os.fsencode(name)) <= _LONGEST:
        return name
    mark = f"~{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"
    kept = name
    while len(os.fsencode(kept)) > _LONGEST - len(mark):
        kept = kept[:-1]
    return kept + mark
