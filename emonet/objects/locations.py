"""Files by path and objects by address, read in one way: their sizes, ranges of their bytes, and as files that seek."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

from emonet.errors import RequestError
from emonet.objects.folder import Objects
from emonet.objects.ranges import BLOCK, WHOLE, Ranges
from emonet.objects.urls import is_url, split

_AT_ONCE = 32  # requests
_LISTED = 200  # objects in one folder from which on it is listed
_SURPLUS = 4  # times as many objects as are wanted are listed at most


def size_of(location: str) -> int | None:
    """Size of a file or object in bytes; None where there is none.

    Raises:
        RequestError: if the store of the object cannot be used.
    """
    if not is_url(location):
        # Unlike pathlib's, this `isfile` takes a name that is too long for one of no file.
        return Path(location).stat().st_size if os.path.isfile(location) else None  # noqa: PTH113
    found = stamp_of_object(location)
    return None if found is None else found[0]


def stamp_of_object(url: str) -> tuple[int, str] | None:
    """Size of an object in bytes, and what its service tells other contents by; None where there is none.

    Raises:
        RequestError: if its store cannot be used.
        EmonetError: if it does not answer.
    """
    store, key = _object(url)
    return store.stamp(key)


def read_range(location: str, start: int, size: int) -> bytes:
    """Bytes of a file or object; fewer where it ends before.

    Raises:
        OSError: if the file cannot be read, or the object is gone.
        EmonetError: if the store of the object cannot be used.
    """
    if not is_url(location):
        with Path(location).open("rb", buffering=0) as file:
            return _read_at(file.fileno(), start, size)
    store, key = _object(location)
    return store.read_ranges(key, [start], [size])[0]


def open_location(location: str, *, block: int = BLOCK, whole: int = WHOLE, size: int | None = None) -> BinaryIO:
    """A file or object as a file that seeks; of an object only what is read comes, in blocks.

    Args:
        location: path or address.
        block: bytes that come at once.
        whole: an object that is not larger comes at once (bytes).
        size: of the object, where it was asked for before (bytes).

    Raises:
        OSError: if it is not there or cannot be read.
        EmonetError: if the store of the object cannot be used.
    """
    if not is_url(location):
        return Path(location).open("rb")
    size = size_of(location) if size is None else size
    if size is None:
        raise FileNotFoundError(f"no such object: {location}")
    ranges = Ranges(lambda start, count: read_range(location, start, count), size, block=block, whole=whole)
    return cast("BinaryIO", io.BufferedReader(ranges.file(), 1 << 13))


def _read_at(file: int, start: int, size: int) -> bytes:
    parts: list[bytes] = []
    while size > 0 and (part := os.pread(file, min(size, 1 << 30), start)):
        parts.append(part)
        start, size = start + len(part), size - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _object(location: str) -> tuple[Objects, str]:
    """The store that an object is in, kept open, and the object's key."""
    scheme, bucket, path = split(location)
    if not path:
        raise RequestError("the URL names no object", where=location, expected=f"{scheme}://{bucket}/PATH")
    return _store(f"{scheme}://{bucket}"), path


@lru_cache(maxsize=64)
def _store(root: str) -> Objects:
    return Objects.open(root)


def sizes_of(locations: Sequence[str]) -> dict[str, int | None]:
    """Sizes of many files and objects (bytes), None of those that are not there; asked for at the same time.

    Folders of which many objects are asked for are listed, which takes a request for a thousand of them.

    Raises:
        RequestError: if the store of an object cannot be used.
        EmonetError: if it does not answer.
    """
    found: dict[str, int | None] = {}
    folders: dict[str, set[str]] = {}
    for location in locations:
        folders.setdefault(location.rpartition("/")[0], set()).add(location)
    for folder, wanted in folders.items():
        if len(wanted) >= _LISTED and is_url(folder) and not folder.startswith("http"):
            with suppress(RequestError):  # who may read need not be allowed to list
                for key, size in islice(Objects.open(folder).list(), _SURPLUS * len(wanted)):
                    if (location := f"{folder}/{key}") in wanted:
                        found[location] = size
    rest = [location for location in locations if location not in found]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        found |= dict(zip(rest, threads.map(size_of, rest), strict=True))
    return found
