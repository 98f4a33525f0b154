"""Repair of a damaged store: what is wrong is taken away and made again, and nothing else is touched.

At every moment a kill leaves a store that `verify` finds damaged, or an unfinished one that an extraction completes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import final

import numpy as np

from cache.extraction import extract
from cache.maintenance.info import readable_markers
from cache.maintenance.verification import StoreReport, verify, wrong_arrays
from cache.store import (
    MARKERS,
    SCALES,
    SILENCE,
    STATES,
    TABLE,
    ExtractionRecord,
    FeatureStore,
    create,
    marker_file,
    read_attributes,
    read_classes,
    shard_file,
)
from cache.writing import StoreLocks, StoreWriter
from emonet.clips import Corpus, Rejection
from emonet.configs import ExtractionConfig
from emonet.encoders import ReadyEncoder
from emonet.errors import EmonetError
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
        RequestError: if there is no store, or the corpus or the encoder is not the one it was made from; nothing
            but metadata of the arrays was mended then.
        EmonetError: if another process writes the store, or what every shard needs is lost.
    """
    return _Repair(path, sources, show).run()


@final
class _Repair:
    def __init__(self, path: Path, sources: Sources, show: ShowProgress) -> None:
        self._path = path
        self._sources = sources
        self._show = show
        self._record, self._targets, self._note = read_attributes(path)
        self._classes = read_classes(path)
        self._problems: list[str] = []
        self._again: set[int] = set()
        self._former: dict[int, str] = {}  # digests of shards, as they were first written
        self._written: dict[str, None] = {}  # files, in order
        self._removed: tuple[str, ...] = ()

    def run(self) -> RepairReport:
        self._mend_arrays()
        if wrong := self._wrong_table():
            self._problems.append(wrong)
            self._remake(())  # without a table nobody can say which chunks should be there
        report = self._check()
        if report.problems:
            self._problems += report.problems
            self._tidy()
            if report.damaged or verify(self._path).problems:
                self._remake(report.damaged)
            report = self._check()
        return self._report(report)

    def _mend_arrays(self) -> None:
        """Restore metadata that are damaged; what is still wrong with the mean of silence then, nothing can mend."""
        wrong = wrong_arrays(self._path, self._record)
        if not wrong:
            return
        self._problems += wrong.values()
        self._mend_metadata()
        if lost := wrong_arrays(self._path, self._record).get(SILENCE):
            hint = "emonet extract --force, which makes the store anew"
            raise EmonetError(lost, where=self._path / SILENCE, hint=hint)

    def _wrong_table(self) -> str | None:
        if not (self._path / TABLE).is_file():
            there = len(readable_markers(self._path, self._record))
            return f"the table of clips is missing; {there} of {self._record.shards} shards are there"
        try:
            len(FeatureStore.open(self._path).clips)
        except EmonetError as error:
            return error.what
        return None

    def _check(self) -> StoreReport:
        with self._show("reading", "clips") as progress:
            return verify(self._path, deep=True, progress=progress)

    def _tidy(self) -> None:
        """Mend what follows from the record alone: leftovers, and the metadata of the arrays."""
        with _alone(self._path):
            self._removed = tuple(
                str(file.relative_to(self._path)) for file in sorted(self._path.rglob(f"*{durable.PARTIAL}"))
            )
            durable.remove_partials(self._path)
        self._mend_metadata()

    def _mend_metadata(self) -> None:
        beside = self._path.parent
        with _alone(self._path), TemporaryDirectory(durable.PARTIAL, f".{self._path.name}.", beside) as folder:
            fresh = Path(folder) / self._path.name
            silence = np.zeros(self._record.shape[1:], np.float16) if self._record.kept == "speech" else None
            create(fresh, self._record, self._targets, self._note, silence, self._classes)
            for metadata in fresh.glob("*/zarr.json"):
                name = metadata.relative_to(fresh)
                if _restore(metadata, self._path / name):
                    self._written[str(name)] = None

    def _remake(self, damaged: Iterable[int]) -> None:
        """Extract shards again, those without a readable marker included, and write the table."""
        markers = {marker.shard: marker for marker in readable_markers(self._path, self._record)}
        wanted = sorted({*damaged, *(set(range(self._record.shards)) - set(markers))})
        self._require_same(encoder=bool(wanted))
        self._former |= {shard: markers[shard].digest for shard in wanted if shard in markers}
        self._again |= set(wanted)
        self._take_away(wanted)
        if wanted:
            with self._show("encoding", "clips") as progress:
                extract(
                    self._corpus,
                    self._encoder,
                    self._path,
                    _config(self._record),
                    source=self._record.encoder,
                    progress=progress,
                )
        else:
            with StoreWriter(self._path, self._record, self._corpus) as writer:
                writer.finish()
        self._written[TABLE] = None

    @cached_property
    def _corpus(self) -> Corpus:
        return self._sources.corpus(self._record)

    @cached_property
    def _encoder(self) -> ReadyEncoder:
        return self._sources.encoder(self._record)

    def _require_same(self, *, encoder: bool) -> None:
        """Before anything is taken away: are corpus and encoder what the store was made from?"""
        found: dict[str, object] = {"corpus_fingerprint": self._corpus.fingerprint, "clips": len(self._corpus)}
        if encoder:
            found |= {
                "encoder_digest": self._encoder.digest,
                "window_seconds": self._encoder.window.seconds,
                "frames": self._encoder.frames,
                "width": self._encoder.width,
                "mels": self._encoder.mels,
                "precision": self._encoder.precision,
            }
        self._record.require(found, where=self._path, hint=_SAME)

    def _take_away(self, shards: list[int]) -> None:
        """Markers first: without the table a damaged shard that still had its marker would pass for a whole one."""
        with _alone(self._path):
            (self._path / MARKERS).mkdir(exist_ok=True)
            for shard in shards:
                marker_file(self._path, shard).unlink(missing_ok=True)
            durable.sync(self._path / MARKERS)
            (self._path / TABLE).unlink(missing_ok=True)
            durable.sync(self._path)
            for shard in shards:
                for array in (STATES, SCALES):
                    shard_file(self._path, shard, array).unlink(missing_ok=True)

    def _report(self, after: StoreReport) -> RepairReport:
        digests = {marker.shard: marker.digest for marker in readable_markers(self._path, self._record)}
        rows = [row for shard in sorted(self._again) for row in self._record.rows(shard)]
        clips = {str(clip): None for clip in FeatureStore.open(self._path).clips["id"].iloc[rows]}
        return RepairReport(
            store=self._path,
            problems=tuple(self._problems),
            shards=tuple(sorted(self._again)),
            clips=tuple(clips),
            written=tuple(self._written),
            removed=self._removed,
            failures=tuple(failure for failure in after.failures if failure.id in clips),
            different=tuple(shard for shard, digest in sorted(self._former.items()) if digests.get(shard) != digest),
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
        max_failed=1.0,
        copies="note",
    )


def _restore(fresh: Path, metadata: Path) -> bool:
    """Replace an array's metadata where it says something else than it must; tells whether it did."""
    try:
        same = json.loads(metadata.read_bytes()) == json.loads(fresh.read_bytes())
    except (OSError, ValueError):
        same = False
    if not same:
        metadata.parent.mkdir(exist_ok=True)
        durable.write(metadata, fresh.read_bytes())
    return not same
