"""Copies within a corpus: the same clip in two folders, or in two formats, told once for all clips of a folder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from emonet.errors import raise_collected
from emonet.names import as_text

_Places = tuple[tuple[str, ...], tuple[str, ...]]  # parts of two folders, where a clip lies first and again


def refuse_copies(files: Sequence[Path], folder: Path) -> None:
    """Refuse files of one stem, which would count twice.

    Args:
        files: of a corpus whose clips are known by their stems.
        folder: above all of them.

    Raises:
        RequestError: if a stem occurs twice; one line for each pair of folders (or suffixes) that share some.
    """
    first: dict[str, Path] = {}
    pairs: dict[tuple[_Places, str, str], list[tuple[Path, Path]]] = defaultdict(list)
    for file in files:
        other = first.setdefault(file.stem, file)
        if other is not file:
            places = _apart(other.relative_to(folder).parent, file.relative_to(folder).parent)
            pairs[places, other.suffix, file.suffix].append((other, file))
    nested = any(one != two for (one, two), _, _ in pairs)
    raise_collected(
        "clips are there more than once",
        [_problem(places, found, folder) for (places, _, _), found in pairs.items()],
        where=as_text(folder),
        hint="keep one copy of each clip: "
        + ("name one of the folders, or move the other away" if nested else "only the .wav files, for example"),
    )


def _apart(one: Path, two: Path) -> _Places:
    """Two folders without the parts that they end in alike: `a/x` and `b/x` are apart at `a` and `b`."""
    first, second = list(one.parts), list(two.parts)
    while first and second and first[-1] == second[-1]:
        first.pop()
        second.pop()
    return tuple(first), tuple(second)


def _problem(places: _Places, found: Sequence[tuple[Path, Path]], folder: Path) -> str:
    one, two = (as_text(Path(*parts)) if parts else "." for parts in places)
    clips = f"{len(found)} clip{'s' * (len(found) != 1)}"
    first, again = (as_text(file.relative_to(folder)) for file in found[0])
    example = f"{'' if len(found) == 1 else 'such as '}{first} and {again}"
    if places[0] == places[1]:
        return f"{clips} in two formats: {example}"
    same = all(a.suffix == b.suffix and _size(a) == _size(b) for a, b in found)
    relation = "is a copy of" if same else "holds clips that are also in"
    return f"the folder {two} {relation} {one} ({clips}: {example})"


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1
