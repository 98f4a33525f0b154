"""Repair of a damaged store: markers of shards that are wrong are taken away, and an extraction makes these again.

At every moment a kill leaves a store that `verify` finds damaged, or an unfinished one that an extraction completes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import final

import numpy as np

from cache.extraction import extract, record_of
from cache.maintenance.verification import StoreReport, verify, wrong_arrays
from cache.store import (
    MARKERS,
    METADATA,
    SILENCE,
    TABLE,
    ExtractionRecord,
    FeatureStore,
    create,
    how_to_repair,
    marker_file,
    place,
    read_attributes,
    readable_markers,
    require_table,
)
from cache.writing import StoreLocks, StoreWriter
from emonet.clips import Corpus, Rejection
from emonet.configs import ExtractionConfig
from emonet.encoders import ReadyEncoder
from emonet.errors import EmonetError, RequestError
from emonet.objects import is_url
from emonet.runtime import ShowProgress, durable
from emonet.schema import Schema

_SAME = "the corpus and the captioner as they were: --corpus SPEC, --captioner SOURCE; or emonet extract --force"


class RepairReport(Schema):
    """What `emonet store repair` did."""

    store: Path
    """The folder."""
    problems: tuple[str, ...]
    """What was wrong; empty if the store was whole, and then nothing was changed."""
    shards: tuple[int, ...]
    """Shards that were extracted again."""
    clips: tuple[str, ...]
    """Ids of their clips."""
    failures: tuple[Rejection, ...]
    """Those of them that have no states, and why."""
    different: tuple[int, ...]
    """Shards whose states are not bit for bit those that were there first, as after a change of machine."""
    written: tuple[str, ...] = ()
    """Files beside the shards that were written again, below the folder."""
    removed: tuple[str, ...] = ()
    """Files that a killed writer had left, below the folder."""
    remaining: tuple[str, ...]
    """What is wrong still."""
    fingerprint: str
    """SHA-256 over what the store was made from and what it holds."""

    @property
    def exit_code(self) -> int:
        """0 if the store is whole now, else 1."""
        return 1 if self.remaining else 0


@dataclass(frozen=True, slots=True)
class Sources:
    """How to get at what a store was made from; each is asked at most once, and only if it is needed.

    Args:
        corpus: opens the record's corpus.
        encoder: loads the record's encoder, with the record's arithmetic.
    """

    corpus: Callable[[ExtractionRecord], Corpus]
    encoder: Callable[[ExtractionRecord], ReadyEncoder]


def repair(path: Path, sources: Sources, show: ShowProgress) -> RepairReport:
    """Make a store whole: read every chunk, extract the shards that are damaged or missing again, check again.

    Args:
        path: the folder NAME.zarr.
        sources: what it was made from.
        show: opens a progress callback, for each look and for the extraction.

    Raises:
        RequestError: if there is no store, it is in an object store, or the corpus or the encoder is not the one it was
            made from; nothing but metadata of the arrays was mended then.
        EmonetError: if another process writes the store, or what every shard needs is lost.
    """
    if is_url(path):
        where = place(path)
        raise RequestError("a store is repaired on a disk of this machine", where=where, hint=how_to_repair(where))
    return _Repair(path, sources, show).run()


@final
class _Repair:
    def __init__(self, path: Path, sources: Sources, show: ShowProgress) -> None:
        self._path = path
        self._sources = sources
        self._show = show
        self._record, self._targets, self._note = read_attributes(path)
        self._problems: list[str] = []
        self._former: dict[int, str | None] = {}  # shards that are made again, and their digests where they are known
        self._written: list[str] = []
        self._removed: list[str] = []

    def run(self) -> RepairReport:
        if wrong := wrong_arrays(self._path, self._record):
            self._problems += wrong.values()
            self._mend_metadata(wrong)
        if missing := self._wrong_table():
            self._problems.append(missing)
            self._remake(())  # without a table nobody can say which chunks should be there
        report = self._check()
        if report.problems:
            self._problems += report.problems
            self._remove_leftovers()
            if report.damaged or verify(self._path).problems:
                self._remake(report.damaged)
            report = self._check()
        return self._report(report)

    def _mend_metadata(self, arrays: Iterable[str]) -> None:
        """Write the metadata of these arrays again; what is still wrong with the mean of silence nothing can mend."""
        with _alone(self._path), TemporaryDirectory(durable.PARTIAL, f".{self._path.name}.", self._path.parent) as new:
            silence = np.zeros(self._record.shape[1:], np.float16) if self._record.kept == "speech" else None
            create(Path(new) / "fresh", self._record, self._targets, self._note, silence)
            for name in (f"{array}/{METADATA}" for array in arrays):
                (self._path / name).parent.mkdir(exist_ok=True)
                durable.write(self._path / name, (Path(new) / "fresh" / name).read_bytes())
                self._written.append(name)
        if lost := wrong_arrays(self._path, self._record).get(SILENCE):
            hint = "emonet extract --force, which makes the store anew"
            raise EmonetError(lost, where=self._path / SILENCE, hint=hint)

    def _wrong_table(self) -> str | None:
        if not (self._path / TABLE).is_file():
            there = sum(1 for _ in readable_markers(self._path, self._record))
            return f"the table of clips is missing; {there} of {self._record.shards} shards are there"
        try:
            FeatureStore.open(self._path)
            require_table(self._path)
        except EmonetError as error:
            return error.what
        return None

    def _check(self) -> StoreReport:
        with self._show("reading", "clips") as progress:
            return verify(self._path, deep=True, progress=progress)

    def _remove_leftovers(self) -> None:
        with _alone(self._path):
            leftovers = sorted(self._path.rglob(f"*{durable.PARTIAL}"))
            self._removed = [str(file.relative_to(self._path)) for file in leftovers]
            durable.remove_partials(self._path)

    def _remake(self, damaged: Iterable[int]) -> None:
        """Extract shards again, those without a readable marker included, and write the table."""
        digests = {marker.shard: marker.digest for marker in readable_markers(self._path, self._record)}
        wanted = sorted({*damaged, *(set(range(self._record.shards)) - set(digests))})
        config, source = _config(self._record), self._record.encoder
        if not wanted:
            known = {"corpus_fingerprint": self._corpus.fingerprint, "clips": len(self._corpus)}
            self._record.require(known, where=self._path, hint=_SAME)
            with StoreWriter(self._path, self._record, self._corpus) as writer:
                writer.finish()
        else:
            same = record_of(self._corpus, self._encoder, config, source=source)
            self._record.require(same, where=self._path, hint=_SAME)  # before anything is taken away
            self._former = {shard: digests.get(shard) for shard in wanted} | self._former
            self._take_away(wanted)
            with self._show("encoding", "clips") as progress:
                extract(self._corpus, self._encoder, self._path, config, source=source, progress=progress)
        self._written.append(TABLE)

    @cached_property
    def _corpus(self) -> Corpus:
        return self._sources.corpus(self._record)

    @cached_property
    def _encoder(self) -> ReadyEncoder:
        return self._sources.encoder(self._record)

    def _take_away(self, shards: list[int]) -> None:
        """Remove the markers alone: the extraction then takes the table away and replaces the shards' files."""
        with _alone(self._path):
            for shard in shards:
                marker_file(self._path, shard).unlink(missing_ok=True)
            if (self._path / MARKERS).is_dir():
                durable.sync(self._path / MARKERS)

    def _report(self, after: StoreReport) -> RepairReport:
        digests = {marker.shard: marker.digest for marker in readable_markers(self._path, self._record)}
        again = sorted(self._former)
        rows = [row for shard in again for row in self._record.rows(shard)]
        clips = tuple(FeatureStore.open(self._path).ids.iloc[rows])
        return RepairReport(
            store=self._path,
            problems=tuple(self._problems),
            shards=tuple(again),
            clips=clips,
            written=tuple(dict.fromkeys(self._written)),
            removed=tuple(self._removed),
            failures=tuple(failure for failure in after.failures if failure.id in set(clips)),
            different=tuple(shard for shard in again if self._former[shard] not in {None, digests.get(shard)}),
            remaining=after.problems,
            fingerprint=after.fingerprint,
        )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """While files are taken away no other process may write the store.

    Raises:
        EmonetError: if one does.
    """
    with durable.explained(path.parent), StoreLocks(path) as locks, locks.preparing():
        if not locks.join():
            raise EmonetError("another process is writing this store", where=path, hint="wait until it has finished")
        yield


def _config(record: ExtractionRecord) -> ExtractionConfig:
    """The configuration that gives this record, however many clips fail."""
    return ExtractionConfig(
        batch_size=record.batch_size,
        shard_clips=record.shard_clips,
        precision=record.precision,
        codec=record.codec,
        frames=record.kept,
        pool=record.pool,
        max_failed=1.0,
        copies="note",
    )
