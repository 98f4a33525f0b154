"""Walks over users' folders: links are followed, each real folder once; hidden and system files are passed over.

Also what relative paths start from, and what `~` stands for at the beginning of a path.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_SYSTEM = frozenset(  # what operating systems and network drives leave in folders, in lower case
    {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "recycler", "system volume information"}
    | {"lost+found", "@eadir", "icon\r"}
)


@dataclass(frozen=True, slots=True)
class Walk:
    """What lies below a folder.

    Args:
        files: all files that are neither hidden nor the system's, sorted; also links that lead nowhere.
        closed: folders that cannot be listed, with the reason.
    """

    files: tuple[Path, ...]
    closed: tuple[tuple[Path, str], ...]

    def ending_in(self, suffixes: Collection[str]) -> tuple[Path, ...]:
        """The files with one of `suffixes`, which are in lower case."""
        return tuple(file for file in self.files if file.suffix.lower() in suffixes)

    def passed_over(self, suffixes: Collection[str]) -> dict[str, int]:
        """The other files: suffix (or `no suffix`) -> count, most frequent first."""
        return count_suffixes(file for file in self.files if file.suffix.lower() not in suffixes)


def count_suffixes(files: Iterable[Path]) -> dict[str, int]:
    """Suffix in lower case (or `no suffix`) -> how many of `files` have it, most frequent first."""
    counts = Counter(file.suffix.lower() or "no suffix" for file in files)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def walk(folder: Path) -> Walk:
    """Everything below `folder`, at any depth, except what is hidden (its name starts with a dot) or the system's.

    Links to folders are followed after the real folders, each real folder once, so that a link to a folder above or
    beside adds nothing twice and no loop is endless.

    Args:
        folder: exists; its own name may be hidden.
    """
    files: list[Path] = []
    closed: list[tuple[Path, str]] = []
    seen: set[tuple[int, int]] = set()
    waiting = deque([folder])
    while waiting:
        for place, names, links in _real_folders(waiting.popleft(), seen, closed):
            files += (place / name for name in names)
            waiting += (place / name for name in links)
    return Walk(tuple(sorted(files)), tuple(closed))


def _real_folders(
    root: Path, seen: set[tuple[int, int]], closed: list[tuple[Path, str]]
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Each folder from `root` down that is not in `seen` yet: it, the names of its files and of links to folders."""

    def note(error: OSError) -> None:
        closed.append((Path(error.filename), f"the folder cannot be listed: {error.strerror or error}"))

    for place, folders, files in os.walk(root, onerror=note):
        found = os.stat(place)  # noqa: PTH116 a Path for each folder's identity is made in vain
        if (found.st_dev, found.st_ino) in seen:
            folders.clear()
            continue
        seen.add((found.st_dev, found.st_ino))
        shown = sorted(name for name in folders if not is_hidden(name))
        links = [name for name in shown if os.path.islink(f"{place}{os.sep}{name}")]  # noqa: PTH114
        folders[:] = [name for name in shown if name not in links]
        yield Path(place), [name for name in files if not is_hidden(name)], links


def expanded(path: str | Path) -> Path:
    """A path with the home folder in place of `~` or `~NAME`; as it is where there is no such user or home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def working_folder() -> str:
    """What relative paths start from now; nothing where it was removed, so that only whole paths are found."""
    try:
        return os.getcwd()  # noqa: PTH109 as text
    except FileNotFoundError:
        return ""


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or something that the system left there."""
    return name.startswith(".") or name.lower() in _SYSTEM
