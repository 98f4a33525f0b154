"""A store of ten tones that is damaged and made whole again: what the tests of repairing share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cache.maintenance import RepairReport, Sources, repair, verify
from emonet.clips import Corpus
from emonet.encoders import FrozenEncoder
from emonet.runtime import Progress, ignore

CLIPS, SHARD, BROKEN = 10, 3, 4  # shards of rows 0-2, 3-5, 6-8 and 9; row 4 cannot be read


@dataclass(frozen=True)
class Made:
    """A store, and what it was made from."""

    path: Path
    corpus: Corpus
    encoder: FrozenEncoder

    @property
    def sources(self) -> Sources:
        return Sources(lambda record: self.corpus, lambda record: self.encoder)

    def repair(self, sources: Sources | None = None) -> RepairReport:
        return repair(self.path, sources or self.sources, nothing_shown)


@contextmanager
def nothing_shown(label: str, unit: str) -> Iterator[Progress]:
    yield ignore


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def times(path: Path) -> dict[str, int]:
    return {str(file.relative_to(path)): file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()}


def copied(made: Made, folder: Path) -> Made:
    path = folder / "s.zarr"
    shutil.copytree(made.path, path)
    return replace(made, path=path)


def flip(file: Path, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 4
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def check_same(made: Made, before: dict[str, bytes], untouched: dict[str, int], *, again: set[str]) -> None:
    """All files are as they were, byte for byte; only those in `again` were written."""
    assert contents(made.path) == before
    after = times(made.path)
    assert {name for name in after if after[name] != untouched[name]} == again
    assert verify(made.path, deep=True).problems == ()
