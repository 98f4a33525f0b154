"""The extraction pipeline: clips go from decoders through the encoder to the writer, all at work at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Protocol, final, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float16

from cache.extraction.throughput import Meter
from cache.store import ExtractionRecord
from cache.writing import ShardSink, SilenceMeter, StoreWriter, sample
from emonet.audio import Decoded, Decoders, pad
from emonet.clips import Clip, Corpus
from emonet.encoders import Padded, ReadyEncoder
from emonet.errors import AudioError
from emonet.experts import statistics
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

    def waveforms(self, window: Window, *, pinned: bool) -> Padded:
        """Padded audio; a clip that could not be read keeps its place, so that the others have the same neighbours."""
        sounds = [_SILENT if isinstance(one, AudioError) else one.samples for one in self.heard]
        return _padded(sounds, window, pinned=pinned)


@runtime_checkable
class Listener(Protocol):
    """Is told what becomes of shards while they are filled."""

    def begun(self, shard: int) -> None:
        """Its clips are about to be decoded."""
        ...

    def heard(self, rows: Sequence[int], clips: Sequence[Decoded | AudioError]) -> None:
        """Clips of these rows were encoded, or could not be read; whatever this raises stops the filling."""
        ...

    def advanced(self, shard: int, clips: int, *, whole: bool) -> None:
        """So many clips of it more are on their way to the disk; `whole`: all of them."""
        ...


@final
class Filling:
    """Brings the clips of shards from the decoders through the encoder to the writer.

    Args:
        writer: entered.
        corpus: its clips are the rows.
        encoder: makes the states.
        decoders: entered.
        meter: counts what this does.
        listener: is told what becomes of them.
    """

    def __init__(
        self,
        writer: StoreWriter,
        corpus: Corpus,
        encoder: ReadyEncoder,
        decoders: Decoders,
        meter: Meter,
        listener: Listener,
    ) -> None:
        self._writer = writer
        self._corpus = corpus
        self._encoder = encoder
        self._decoders = decoders
        self._meter = meter
        self._listener = listener

    def fill(self, shards: Iterator[int]) -> None:
        """Fill shards, each taken when the one before is decoded; returns when they are on disk.

        Raises:
            EmonetError: if decoders cannot be started, or a shard cannot be written.
        """
        passes: deque[_Pass] = deque()
        on_gpu = self._encoder.device.type == "cuda"

        def batches() -> Iterator[Padded]:
            for one in self._passes(shards):
                passes.append(one)
                yield one.waveforms(self._encoder.window, pinned=on_gpu)

        for states in self._meter.drained(self._encoder.stream(self._meter.fed(batches()))):
            self._put(passes.popleft(), states.numpy())
        self._writer.flush()

    def _passes(self, shards: Iterator[int]) -> Iterator[_Pass]:
        """Decoded clips, in passes that never cross a shard."""
        begun: deque[ShardSink] = deque()
        size = self._writer.record.batch_size

        def clips() -> Iterator[Clip]:
            for shard in shards:
                self._listener.begun(shard)
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
        kept = states if self._writer.record.pool == "none" else self._pooled(done, states)
        failed = 0
        for position, (heard, one) in enumerate(zip(done.heard, kept, strict=True), done.first):
            if isinstance(heard, AudioError):
                done.sink.fail(position, heard.reason)
                failed += 1
            else:
                done.sink.put(position, one, heard.seconds, content=heard.content, notices=heard.notices)
        self._meter.add(len(states), failed=failed)
        self._listener.heard(done.sink.rows[done.first : done.first + len(states)], done.heard)
        if done.is_last:
            done.sink.commit()
        self._listener.advanced(done.sink.shard, len(states), whole=done.is_last)

    def _pooled(
        self, done: _Pass, states: Float16[np.ndarray, "clips frames width"]
    ) -> Float16[np.ndarray, "clips 4 width"]:
        seconds = [0.0 if isinstance(one, AudioError) else one.seconds for one in done.heard]
        lengths = torch.tensor([self._writer.record.speech_frames(one) for one in seconds])
        pooled: np.ndarray = statistics(torch.from_numpy(states), lengths).half().numpy()
        return pooled.reshape(len(states), -1, states.shape[2])


def _padded(sounds: Sequence[np.ndarray], window: Window, *, pinned: bool = False) -> Padded:
    return Padded(pad(sounds, window, pinned=pinned), [min(len(samples), window.samples) for samples in sounds])


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
