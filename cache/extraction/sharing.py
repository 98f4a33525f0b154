"""The plain loop of an extraction: this process claims shard after shard, beside others that do the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import final

from cache.extraction.ledger import Ledger
from cache.extraction.pipeline import Filling, Listener
from cache.extraction.throughput import Meter
from cache.store import read_markers
from cache.writing import StoreWriter
from emonet.audio import Decoded
from emonet.errors import AudioError
from emonet.runtime import Progress


@final
class Sharing:
    """Claims shards, has them filled, and keeps count of what others do meanwhile.

    Args:
        writer: entered.
        filling: makes what fills them, of who is told.
        ledger: of the corpus.
        meter: counts what this process does.
        progress: called with clips done, those of other processes included.
    """

    def __init__(
        self,
        writer: StoreWriter,
        filling: Callable[[Listener], Filling],
        ledger: Ledger,
        meter: Meter,
        progress: Progress,
    ) -> None:
        self._writer = writer
        self._filling = filling(self)
        self._ledger = ledger
        self._meter = meter
        self._progress = progress
        self._there = 0  # clips in shards whose markers are read
        self._own: set[int] = set()  # shards that this process has begun
        self._behind: dict[int, int] = {}  # of these, those that are committed but not on disk: their clips
        self._done = 0  # clips, those of other processes included

    def run(self) -> None:
        """Do all that there is for this process to do, and wait for what others of the same part do.

        Raises:
            RequestError: if the same sound is in two splits.
            EmonetError: if too many clips fail, decoders cannot be started, or a shard cannot be written.
        """
        self._count(fresh=True)
        self._show()
        for shards in self._rounds():
            self._filling.fill(shards)
            self._count()
        self._count(fresh=True)
        self._show()

    def begun(self, shard: int) -> None:
        """One more is this process' own."""
        self._own.add(shard)

    def heard(self, rows: Sequence[int], clips: Sequence[Decoded | AudioError]) -> None:
        """Some of its clips are encoded."""
        self._ledger.hear(rows, clips)

    def advanced(self, shard: int, clips: int, *, whole: bool) -> None:
        """Count them."""
        if whole:
            self._behind[shard] = len(self._writer.record.rows(shard))
            self._count()
        else:
            self._done += clips
        self._show()

    def _rounds(self) -> Iterator[Iterator[int]]:
        """Shards to do, in rounds: none is left half done while this process waits for others.

        Else two processes could wait for each other.
        """
        yield self._writer.claims(wait=False)
        for shard in self._writer.claims():
            yield iter([shard])

    def _count(self, *, fresh: bool = False) -> None:
        """See what is on disk by now, whoever wrote it; what others wrote is seen late unless the look is `fresh`."""
        record = self._writer.record
        for marker in read_markers(self._writer.path, record, self._writer.news(fresh=fresh)):
            self._there += len(record.rows(marker.shard))
            if marker.shard in self._own:
                self._behind.pop(marker.shard, None)  # not there if another process has taken it over and was faster
                self._meter.wrote(marker.stored_bytes)
            else:
                self._ledger.read(record, marker)
        if self._there < record.clips:
            self._ledger.check()
        self._done = max(self._done, self._there + sum(self._behind.values()))

    def _show(self) -> None:
        self._progress(self._done, self._writer.record.clips, self._meter.speed().note())
