"""Corpora in several files: names with braces and wildcards, folders of shards, and splits that files' names tell."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from glob import glob
from pathlib import Path, PurePosixPath

from emonet.clips import Split
from emonet.corpora.manifest.finding import path_exists
from emonet.corpora.manifest.rows import SPLIT_NAMES
from emonet.errors import RequestError, raise_collected, shortened
from emonet.names import as_text
from emonet.objects import Objects, is_url, size_of, without_query
from emonet.runtime import is_hidden, walk
from emonet.schema import digest
from emonet.tables import Row

MOST = 1_000_000  # files that braces may stand for
_BRACES = re.compile(r"\{([^{}]*)\}")
_NUMBERS = re.compile(r"(\d+)\.\.(\d+)")
_WILD = re.compile(r"[*?\[]")
_SPLIT = re.compile(r"(?:.*[^a-z])?(train|training|val|valid|validation|dev|test|eval)(?![a-z])")


def is_several(location: str) -> bool:
    """Whether a location stands for several files: by braces, wildcards or as a folder."""
    if not is_url(location) and path_exists(Path(location)):
        return Path(location).is_dir()
    if location.lower().startswith(("http://", "https://")):  # what is there cannot be listed, and `?` begins a query
        return bool(_BRACES.search(location))
    return bool(_BRACES.search(location) or _WILD.search(location) or location.endswith("/"))


def shards(location: str, suffixes: Collection[str]) -> list[str]:
    """The files or objects that a location stands for, in order.

    Args:
        location: a path or URL; `{000..099}` and `{a,b}` stand for each of these, `*`, `?` and `[...]` for whatever is
            there, a folder (a URL that ends with `/`) for all files in it and below.
        suffixes: of the files that are taken out of folders, in lower case.

    Raises:
        RequestError: if nothing is there, or some of what braces name is not.
    """
    if not is_several(location):
        return [location]
    named = _expanded(location)
    if not any(is_several(one) for one in named):
        absent = [] if is_url(location) else [one for one in named if size_of(one) is None]
        if absent:
            raise RequestError(
                f"{len(absent)} of {len(named)} files do not exist",
                where=as_text(location),
                found=f"without {shortened([PurePosixPath(one).name for one in absent], 3)}",
            )
        return named
    found = [file for one in named for file in _listed(one, suffixes)]
    if not found and not is_url(location) and path_exists(Path(location)):
        return [location]  # whoever opens it says what is wrong with a folder
    if not found:
        raise RequestError(
            "no file is there", where=as_text(location), expected=f"files in {', '.join(sorted(suffixes))}"
        )
    return list(dict.fromkeys(found))


def are_same(location: str, suffixes: Collection[str], names: str) -> bool:
    """Whether a location stands for the same files as before, of whose names this is the digest."""
    try:
        return digest(shards(location, suffixes)) == names
    except RequestError:
        return False


def split_of(location: str) -> Split | None:
    """The split that a file's name, or else its folder's, tells: `train-00000-of-00005.parquet`, `test/0001.tar`."""
    path = PurePosixPath(without_query(location))
    for name in (path.name, path.parent.name):
        if match := _SPLIT.match(name.casefold()):
            return SPLIT_NAMES[match[1]]
    return None


def _expanded(location: str) -> list[str]:
    """The location with each thing that its braces name, from left to right.

    Raises:
        RequestError: if they name too many.
    """
    match = _BRACES.search(location)
    if match is None:
        return [location]
    before, after = location[: match.start()], _expanded(location[match.end() :])
    numbers = _NUMBERS.fullmatch(match[1])
    if numbers is None:
        words: list[str] = match[1].split(",")
    else:
        first, last = int(numbers[1]), int(numbers[2])
        if not 0 <= last - first < MOST:
            raise RequestError("braces name no files, or too many", where=as_text(location), found=match[0])
        words = [str(number).zfill(len(numbers[1])) for number in range(first, last + 1)]
    return [f"{before}{word}{rest}" for word in words for rest in after]


def _listed(location: str, suffixes: Collection[str]) -> Iterator[str]:
    """What there is of a name with wildcards, or in a folder; hidden files are passed over."""
    if is_url(location):
        yield from _objects(location, suffixes)
        return
    for path in sorted(glob(location, recursive=True)):  # noqa: PTH207 the pattern is a whole path
        if not Path(path).is_dir():
            yield path
            continue
        found = walk(Path(path))
        raise_collected("not all folders can be listed", [f"{as_text(one)}: {why}" for one, why in found.closed])
        yield from map(str, found.ending_in(suffixes))


def _objects(location: str, suffixes: Collection[str]) -> Iterator[str]:
    fixed = location[: match.start()] if (match := _WILD.search(location)) else location
    folder = fixed.rpartition("/")[0]
    pattern = location[len(folder) + 1 :]
    for key in sorted(key for key, _ in Objects.open(folder).list()):
        if any(map(is_hidden, key.split("/"))) and "/." not in f"/{pattern}":
            continue
        if pattern and "**" not in pattern and key.count("/") != pattern.count("/"):
            continue
        if fnmatchcase(key, pattern) if pattern else PurePosixPath(key).suffix.lower() in suffixes:
            yield f"{folder}/{key}"


def in_file(row: Row, file: str) -> Row:
    """A row of one of several tables, with the table's name in its place."""
    name = PurePosixPath(without_query(file)).name
    return replace(row, place=f"{name}, {row.place}", header=row.header and f"{name}, {row.header}")
