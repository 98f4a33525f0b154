"""Finding audio files whose names nearly fit: percent-encoded, with backslashes, in other case or Unicode form."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from emonet.clips import AudioRange
from emonet.corpora.manifest.rows import Cells
from emonet.errors import brief
from emonet.names import as_text
from emonet.objects import is_url, sizes_of, without_query

_KNOWN = 4096  # files


class Finder:
    """Looks for the recordings of a table, whose names may be spelled otherwise on disk.

    Args:
        folder: that relative names start from; as text it is a URL.
    """

    def __init__(self, folder: Path | str) -> None:
        self._folder = Path(folder)
        self._url = folder if isinstance(folder, str) else None  # of a table in an object store
        self._objects: dict[str, list[Cells]] = {}  # URL -> where it is named
        self._listings: dict[Path, dict[str, list[str]]] = {}
        self._elsewhere: list[str] = []
        self._known: dict[str, Path] = {}  # the files that were found last: parts of one recording stand together

    def locate(self, name: str, cells: Cells) -> Path | AudioRange:
        """The file or object that a name stands for; if there is no such file, a problem of the row is noted.

        Objects are looked for later, all at once, by `object_sizes`; until then their size is -1.
        """
        if (known := self._known.get(name)) is not None:
            return known
        if name and (self._url is not None or (is_url(name) and not path_exists(self._folder / name))):
            url = name if is_url(name) else f"{self._url}/{name.lstrip('/')}"
            self._objects.setdefault(url, []).append(cells)
            return AudioRange(url, 0, -1)
        file = self._folder / name
        if not name or _is_file(file):
            if len(self._known) == _KNOWN:
                self._known.clear()
            self._known[name] = file
            return file
        near = [] if path_exists(file) else [path for path in self.find(name) if _is_file(path)]
        if len(near) == 1:
            found = near[0].relative_to(self._folder) if near[0].is_relative_to(self._folder) else near[0]
            self._elsewhere.append(f"{brief(name)} ({cells.place}) is {as_text(found)}")
            return near[0]
        told = "is not a file" if path_exists(file) else "does not exist"
        if near:
            told += f", and several files nearly fit: {', '.join(as_text(path.name) for path in near[:3])}"
        cells.complain(f"audio {brief(name)} {told} ({as_text(file)})", "audio", "absent")
        return file

    def object_sizes(self) -> dict[str, int | None]:
        """Size of each object that was located (bytes), None where there is none, which is noted in its rows.

        Raises:
            RequestError: if a store cannot be used.
            EmonetError: if it does not answer.
        """
        found = sizes_of(list(self._objects))
        for url, size in found.items():
            for cells in self._objects[url] if size is None else ():
                cells.complain(f"audio {brief(url)} does not exist", "audio", "absent")
        return found

    def remarks(self) -> list[str]:
        """How many recordings were found under another spelling."""
        count = len(self._elsewhere)
        if not count:
            return []
        subject = "recordings were found under other spellings of their names"
        if count == 1:
            subject = "recording was found under another spelling of its name"
        return [f"{count} {subject}: {self._elsewhere[0]}{', ...' if count > 1 else ''}"]

    def find(self, name: str) -> list[Path]:
        """The files or folders that `name` may mean: none, one, or several that differ in spelling alone."""
        found: dict[Path, None] = {}
        for spelling in _spellings(name):
            path = PurePosixPath(spelling)
            start = Path("/") if path.is_absolute() else self._folder
            found |= dict.fromkeys(self._follow([start], path.parts[path.is_absolute() :]))
            if found:
                break
        return list(found)

    def _follow(self, places: list[Path], parts: Iterable[str]) -> list[Path]:
        for part in parts:
            if part == "..":
                places = [place / part for place in places]
                continue
            exact = [place / part for place in places if path_exists(place / part)]
            places = exact or [place / name for place in places for name in self._listing(place).get(_key(part), ())]
        return places

    def _listing(self, folder: Path) -> dict[str, list[str]]:
        """What lies in a folder: key -> names."""
        if folder not in self._listings:
            listing: dict[str, list[str]] = defaultdict(list)
            try:
                names = sorted(os.listdir(folder))  # noqa: PTH208 names, without a Path for each
            except OSError:
                names = []
            for name in names:
                keys = {_key(name)}
                if as_text(name) != name:  # bytes that are no UTF-8: most often those of an older Windows
                    keys.add(_key(os.fsencode(name).decode("cp1252", "replace")))
                for key in keys:
                    listing[key].append(name)
            self._listings[folder] = dict(listing)
        return self._listings[folder]


def path_exists(path: Path) -> bool:
    """Whether a path leads to something; a name that is too long for the file system leads nowhere."""
    try:
        return path.exists()
    except OSError:
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def unspelled(path: Path) -> Path:
    r"""`path`, or what its text stands for where bytes of its name are no UTF-8 and were spelled, as in `\xe4`."""
    if path_exists(path) or "\\" not in str(path):
        return path
    found = [other for other in Finder(Path()).find(str(path)) if as_text(other) == as_text(path)]
    return found[0] if len(found) == 1 else path


def _spellings(name: str) -> list[str]:
    """What a table may mean by `name`, the most literal first."""
    literal = [name]
    if name.casefold().startswith("file:"):
        literal.append(urlsplit(name).path)
    decoded = [unquote(one, errors="surrogateescape") for one in literal]
    spellings = [*literal, *decoded]
    return list(dict.fromkeys([*spellings, *(one.replace("\\", "/") for one in spellings)]))


def _key(name: str) -> str:
    folded = unicodedata.normalize("NFC", as_text(name)).casefold()
    return unicodedata.normalize("NFC", folded).strip()


def folder_of(table: str) -> Path | str:
    """Where the relative names in a table start from; a URL as text."""
    if is_url(table):
        return without_query(table).rpartition("/")[0]
    return Path(table) if Path(table).is_dir() else Path(table).parent
