"""Sources of a corpus: the files that it was read from, by stamps that show cheaply whether one has changed."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

from emonet.objects import is_url
from emonet.runtime import walk
from emonet.schema import digest

GONE: Final = (-1, -1)
"""The stamp of a file that is not there."""


@final
@dataclass
class Sources:
    """Gathers what a corpus is made of while it is opened; each file is stamped before it is read.

    Args:
        whole: whether these are all: what a plug-in reads is not known.
        tables: path of each manifest -> its stamp.
        several: name of several tables -> suffixes of the files that it stands for, and SHA-256 of their names.
        folders: path of each folder that was listed -> SHA-256 of the names in it.
        recordings: paths of audio files.
        sizes: of the recordings, in bytes.
        times: of the recordings' last changes, in nanoseconds.
    """

    whole: bool = True
    tables: dict[str, tuple[int, int]] = field(default_factory=dict)
    several: dict[str, tuple[tuple[str, ...], str]] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    recordings: list[str] = field(default_factory=list)
    sizes: array[int] = field(default_factory=lambda: array("q"))
    times: array[int] = field(default_factory=lambda: array("q"))

    def add_tables(self, files: Sequence[str], location: str, suffixes: Sequence[str] = ()) -> None:
        """Note tables that are about to be read; of those at an address nobody knows when they change.

        Args:
            files: paths of the tables.
            location: that stands for all of them.
            suffixes: of the files that it stands for, where these are whatever is there.
        """
        for file in files:
            self.tables[file] = stamp_of(file)
            self.whole &= self.tables[file] != GONE
        if suffixes:
            self.several[location] = (tuple(suffixes), digest(list(files)))

    def add_folder(self, folder: Path) -> None:
        """Note a folder whose files are about to be listed."""
        self.folders[os.fspath(folder)] = listing_of(folder)

    def add_recordings(self, locations: Iterable[str]) -> None:
        """Note files that are about to be probed; objects at an address are taken to stay as they are."""
        for location in locations:
            if not is_url(location):
                size, time = stamp_of(location)
                self.recordings.append(location)
                self.sizes.append(size)
                self.times.append(time)

    def set_incomplete(self) -> None:
        """Say that more is read than can be named here."""
        self.whole = False


def stamp_of(location: str) -> tuple[int, int]:
    """Size of a file in bytes, and when it or what is known of it was changed last, in nanoseconds.

    A file that takes the place of another one, with whatever time it had before, has been changed by that.
    """
    try:
        found = os.stat(location)  # noqa: PTH116 a third faster, a million times
    except OSError:
        return GONE
    return found.st_size, max(found.st_mtime_ns, found.st_ctime_ns)


def listing_of(folder: Path) -> str:
    """SHA-256 in hex of the names of all files in a folder, at any depth."""
    found, names = walk(folder), hashlib.sha256()
    for path in (*found.files, *(path for path, _ in found.closed)):
        names.update(os.fsencode(path.relative_to(folder)) + b"\0")
    return names.hexdigest()
