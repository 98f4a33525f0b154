"""WebDataset tars as corpora: members that share a key are a row, with a recording, columns, a caption and a class."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, final

from emonet.audio import AUDIO
from emonet.clips import AudioRange, Rejection
from emonet.corpora.manifest.tar_index import TEXTS, Member, TarIndex, broken_group, index_tar, indexed_groups
from emonet.names import as_text
from emonet.objects import without_query
from emonet.runtime import Progress, ignore
from emonet.tables import Row, names_audio

_AT_ONCE = 8  # tars that are indexed at a time: most of it is waiting for headers


@final
@dataclass
class Tars:
    """Tars of clips, read as rows of a table.

    Args:
        locations: paths or URLs.
        folder: where their indexes are kept.
        progress: told about tars.
        has_labels: whether `KEY.cls` are the clips' labels.
    """

    locations: Sequence[str]
    folder: Path
    progress: Progress = ignore
    has_labels: bool = True
    rejected: list[Rejection] = field(default_factory=list)
    """Clips that a tar ends in."""
    remarks: list[str] = field(default_factory=list)
    """What is wrong with tars."""
    passed_over: Counter[str] = field(default_factory=Counter)
    """Suffix -> members that are neither recordings nor text (count)."""

    def rows(self) -> Iterator[tuple[str, Row]]:
        """The clips as rows, each with the location of its tar.

        Raises:
            RequestError: if a tar is missing, compressed or none.
        """
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            found = threads.map(lambda one: index_tar(one, self.folder), self.locations)
            for done, index in enumerate(found, 1):
                self.progress(done, len(self.locations))
                for row in self._rows(index):
                    yield index.location, row

    def _rows(self, index: TarIndex) -> Iterator[Row]:
        tar, count = PurePosixPath(without_query(index.location)), 0
        broken = broken_group(index)
        for key, members in indexed_groups(index):
            row = None if key == broken else self._row(key, members, index.location)
            if row is not None:
                count += 1
                yield row
        if index.damage:
            name = f"{as_text(tar.name)} is {index.damage}"
            self.remarks.append(f"{name}; the {count} clips before it are used: copy or download the tar again")
        if broken is not None:
            self.rejected.append(Rejection(as_text(f"{tar.stem}/{broken}"), f"its tar is {index.damage}"))

    def _row(self, key: str, members: list[tuple[str, Member]], location: str) -> Row | None:
        """A group of members as a row; None if there is no recording among them."""
        tar = PurePosixPath(without_query(location))
        place = f"{tar.name}, {key}"
        sounds: list[Member] = []
        cells: dict[str, Any] = {"id": f"{tar.stem}/{key}"}
        damage = None
        for ending, member in members:
            suffix = PurePosixPath(ending).suffix or ending
            if suffix in AUDIO:
                sounds.append(member)
            elif suffix not in TEXTS or member.text is None:
                self.passed_over[suffix] += 1
            elif suffix == ".json":
                damage = _add_columns(cells, member.text)
            elif suffix == ".txt" or self.has_labels:
                cells.setdefault({".txt": "caption", ".cls": "label"}[suffix], member.text.strip())
        if not sounds:
            return None
        if len(sounds) > 1:
            damage = f"several recordings have one key: {', '.join(as_text(one.name) for one in sounds[:3])}"
        return Row(place, {**cells, "audio": AudioRange(location, sounds[0].start, sounds[0].size)}, damage)


def _add_columns(cells: dict[str, Any], text: str) -> str | None:
    """Take what a JSON member tells as columns; returns what is wrong with it. Names of recordings are not taken."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"its .json is not JSON: {getattr(error, 'msg', error)}"
    if not isinstance(found, dict):
        return f"its .json holds a {type(found).__name__}, not an object of columns"
    cells.update((name, value) for name, value in found.items() if not names_audio(name) and value is not None)
    return None
