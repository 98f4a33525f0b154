"""The extraction pipeline: clips go from decoders through the encoder to the writer, all at work at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import final

import numpy as np
import torch
from jaxtyping import Float16

from cache.extraction.throughput import Meter
from cache.store import ExtractionRecord, ShardMarker, read_marker
from cache.writing import ShardSink, SilenceMeter, StoreWriter, sample
from emonet.audio import Decoded, Decoders, Notice, pad
from emonet.clips import Clip, Corpus, Rejection
from emonet.corpora import Sounds, refuse_copies
from emonet.encoders import Padded, ReadyEncoder
from emonet.errors import AudioError, EmonetError
from emonet.experts import statistics
from emonet.runtime import Progress
from emonet.windows import Window

AHEAD = 2  # passes that are decoded before the encoder asks for them
_SILENT = np.zeros(0, np.float32)  # keeps the place of a clip that could not be read


@dataclass(frozen=True, slots=True)
class _Pass:
    """Clips that go through the encoder together: all of one shard, and the same ones however the run was split."""

    sink: ShardSink
    first: int  # position in the shard
    heard: list[Decoded | AudioError]

    @property
    def is_last(self) -> bool:
        return self.first + len(self.heard) == len(self.sink.rows)

    def waveforms(self, window: Window) -> Padded:
        """Padded audio; a clip that could not be read keeps its place, so that the others have the same neighbours."""
        return _padded([_SILENT if isinstance(one, AudioError) else one.samples for one in self.heard], window)


@final
class Filling:
    """One run: claims shards, and brings their clips from the decoders through the encoder to the writer.

    Args:
        writer: entered.
        corpus: its clips are the rows.
        encoder: makes the states.
        decoders: entered.
        max_failed: share of the clips that may fail (0 to 1).
        copies: whether the same sound may be in two splits.
        meter: counts what this run does.
        progress: called with clips done, those of other processes included.
    """

    def __init__(
        self,
        writer: StoreWriter,
        corpus: Corpus,
        encoder: ReadyEncoder,
        decoders: Decoders,
        max_failed: float,
        copies: bool,
        meter: Meter,
        progress: Progress,
    ) -> None:
        self._writer = writer
        self._corpus = corpus
        self._encoder = encoder
        self._decoders = decoders
        self._most_failed = max_failed * len(corpus)
        self._meter = meter
        self._progress = progress
        self._failures: list[Rejection] = []  # of all processes, as far as they are known
        self._unread = set(range(writer.record.shards))  # shards whose markers are not read yet
        self._own: set[int] = set()  # shards that this process has begun
        self._behind: dict[int, int] = {}  # of these, those that are committed but not on disk: their clips
        self._of_sound: dict[str, Clip] | None = None if copies else {}  # digest of a sound -> the first clip with it
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
            self._round(shards)
            self._writer.flush()
            self._count()
        self._count(fresh=True)
        self._show()

    def _rounds(self) -> Iterator[Iterator[int]]:
        """Shards to do, in rounds: none is left half done while this process waits for others.

        Else two processes could wait for each other.
        """
        yield self._writer.claims(wait=False)
        for shard in self._writer.claims():
            yield iter([shard])

    def _round(self, shards: Iterator[int]) -> None:
        passes: deque[_Pass] = deque()

        def batches() -> Iterator[Padded]:
            for one in self._passes(shards):
                passes.append(one)
                yield one.waveforms(self._encoder.window)

        for states in self._meter.drained(self._encoder.stream(self._meter.fed(batches()))):
            self._put(passes.popleft(), states.numpy())

    def _passes(self, shards: Iterator[int]) -> Iterator[_Pass]:
        """Decoded clips, in passes that never cross a shard."""
        begun: deque[ShardSink] = deque()
        size = self._writer.record.batch_size

        def clips() -> Iterator[Clip]:
            for shard in shards:
                self._own.add(shard)
                begun.append(self._writer.begin(shard))
                for row in begun[-1].rows:
                    yield self._corpus.clips[row]

        heard = self._decoders.decode(clips(), seconds=self._encoder.window.seconds, ahead=AHEAD * size)
        for opening in heard:
            sink = begun.popleft()
            rest = chain([opening], heard)
            for first in range(0, len(sink.rows), size):
                yield _Pass(sink, first, list(islice(rest, min(size, len(sink.rows) - first))))

    def _put(self, done: _Pass, states: Float16[np.ndarray, "clips frames width"]) -> None:
        unreadable = []
        kept = states if self._writer.record.pool == "none" else self._pooled(done, states)
        for position, (heard, one) in enumerate(zip(done.heard, kept, strict=True), done.first):
            if isinstance(heard, AudioError):
                done.sink.fail(position, heard.reason)
                unreadable.append(Rejection(self._corpus.clips[done.sink.rows[position]].id, heard.reason))
            else:
                done.sink.put(position, one, heard.seconds, content=heard.content, notices=heard.notices)
                self._require_apart(done.sink.rows[position], heard.content)
        self._failures += unreadable
        self._meter.add(len(states), failed=len(unreadable))
        self._check_failures()
        if done.is_last:
            done.sink.commit()
            self._behind[done.sink.shard] = len(done.sink.rows)
            self._count()
        else:
            self._done += len(states)
        self._show()

    def _pooled(
        self, done: _Pass, states: Float16[np.ndarray, "clips frames width"]
    ) -> Float16[np.ndarray, "clips 4 width"]:
        seconds = [0.0 if isinstance(one, AudioError) else one.seconds for one in done.heard]
        lengths = torch.tensor([self._writer.record.speech_frames(one) for one in seconds])
        pooled: np.ndarray = statistics(torch.from_numpy(states), lengths).half().numpy()
        return pooled.reshape(len(states), -1, states.shape[2])

    def _count(self, *, fresh: bool = False) -> None:
        """See what is on disk by now, whoever wrote it; what others wrote is seen late unless the look is `fresh`."""
        pending = self._writer.pending(fresh=fresh)
        for shard in sorted(self._unread.difference(pending)):
            self._unread.remove(shard)
            marker = read_marker(self._writer.path, self._writer.record, shard)
            if shard in self._own:
                del self._behind[shard]
                self._meter.wrote(marker.stored_bytes)
            else:
                self._failures += rejections(self._corpus, [marker])
                for row, content in zip(self._writer.record.rows(shard), marker.contents, strict=False):
                    self._require_apart(row, content)
        if pending:
            self._check_failures()
        missing = sum(len(self._writer.record.rows(shard)) for shard in pending)
        self._done = max(self._done, len(self._corpus) - missing + sum(self._behind.values()))

    def _require_apart(self, row: int, content: str | None) -> None:
        """Refuse the same sound in two splits at once: the corpus must change, and with it the store."""
        if self._of_sound is None or content is None:
            return
        clip = self._corpus.clips[row]
        first = self._of_sound.setdefault(content, clip)
        if first.split != clip.split:
            refuse_copies(self._corpus.name, [[first, clip]])

    def _check_failures(self) -> None:
        if not self._most_failed < len(self._failures) < len(self._corpus):
            return
        raise failed(
            f"{len(self._failures)} of {len(self._corpus)} clips could not be read, and the run has stopped",
            self._corpus,
            self._failures,
            hint=(
                "mend the recordings and run the same command with --force, or leave them out with a larger "
                "--extraction.max-failed (0 to 1); finished shards are kept"
            ),
        )

    def _show(self) -> None:
        self._progress(self._done, len(self._corpus), self._meter.speed().note())


def _padded(sounds: Sequence[np.ndarray], window: Window) -> Padded:
    return Padded(pad(sounds, window), [min(len(samples), window.samples) for samples in sounds])


def rejections(corpus: Corpus, markers: Iterable[ShardMarker]) -> list[Rejection]:
    """The clips without states in the shards of these markers, in order."""
    reasons = {row: reason for marker in markers for row, reason in marker.failures.items()}
    return [Rejection(corpus.clips[row].id, reason) for row, reason in sorted(reasons.items())]


def sounds_of(corpus: Corpus, record: ExtractionRecord, markers: Iterable[ShardMarker]) -> Sounds:
    """What was heard of the clips in the shards of these markers."""
    sounds = Sounds(corpus.name)
    for marker in markers:
        for row, seconds, content in zip(
            record.rows(marker.shard), marker.seconds, marker.contents or [None] * len(marker.seconds), strict=True
        ):
            if seconds is not None:
                notices = [Notice(*notice) for notice in marker.notices.get(row, ())]
                sounds.add(corpus.clips[row], content=content, seconds=seconds, notices=notices)
    return sounds


def failed(what: str, corpus: Corpus, failures: list[Rejection], *, hint: str) -> EmonetError:
    """Says how many clips could not be read, with the first reasons."""
    shown = [f"    - {failure.id}: {failure.reason}" for failure in failures[:5]]
    return EmonetError("\n".join([what, *shown]), where=corpus.name, hint=hint)


def silence_of(
    record: ExtractionRecord, corpus: Corpus, encoder: ReadyEncoder, decoders: Decoders
) -> Float16[np.ndarray, "frames width"]:
    """What the encoder makes of silence, from clips spread over the corpus: the same in every process."""
    clips = [corpus.clips[row] for row in sample(range(len(corpus)))]
    answers = decoders.decode(clips, seconds=encoder.window.seconds, ahead=len(clips))
    heard = [one for one in answers if not isinstance(one, AudioError)]
    passes = [heard[first : first + record.batch_size] for first in range(0, len(heard), record.batch_size)]
    meter = SilenceMeter(record.frames, record.width)
    waveforms = (_padded([sound.samples for sound in some], encoder.window) for some in passes)
    for one, states in zip(passes, encoder.stream(waveforms), strict=True):
        for sound, state in zip(one, states.numpy(), strict=True):
            meter.update(state, record.speech_frames(sound.seconds))
    return meter.mean()
