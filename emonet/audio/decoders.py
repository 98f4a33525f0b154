"""Decoding in worker processes: a recording that crashes the decoder, or hangs it, costs that clip and nothing else.

Each worker has two pipes of its own. The workers of a library's pool (concurrent.futures, pebble, multiprocessing)
share one queue and its lock: one that dies at the wrong moment breaks the pool, or blocks the others for ever.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from queue import Empty, SimpleQueue
from typing import final

from emonet.audio.decoding import AudioInfo, Decoded
from emonet.audio.decoding_worker import DEPTH, Answer, Job, Worker, closed, refuse
from emonet.audio.excerpts import HasAudio
from emonet.errors import AudioError
from emonet.windows import PRETRAINED_SECONDS

MOST_WORKERS = 8  # by default; beyond it they wait for the disk
PROBED = 64  # recordings whose lengths may wait to be asked for
TIMEOUT = 60.0  # seconds that a try may take


def processors() -> int:
    """Processors that this process may use (count)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@final
class Decoders:
    """Worker processes that decode clips; a context manager.

    They start when it is entered, or first asked, and import in the background. They end when it is left, and by
    themselves when this process is killed, even while a decoder hangs. Several threads may ask at once.

    A worker may crash or stand still for reasons that have nothing to do with the recording: no memory, a network drive
    that was away. So a clip that it was lost with is tried once more, first in a fresh worker, before it is given up.

    Args:
        workers: processes (count); by default one for each processor, 8 at most.
        timeout: a try that takes longer has failed, in seconds.
    """

    def __init__(self, workers: int | None = None, *, timeout: float = TIMEOUT) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._workers = [Worker(self._jobs, timeout) for _ in range(workers or min(MOST_WORKERS, processors()))]
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()  # around the two: whoever asks first starts them
        self._is_closed = False

    def __enter__(self) -> Decoders:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the processes, if they have not been: before the first clip, they can import meanwhile."""
        with self._lock:
            if self._threads:
                return
            self._threads = [threading.Thread(target=one.run, name="decode", daemon=True) for one in self._workers]
            for thread in self._threads:
                thread.start()

    def close(self) -> None:
        """End the processes, if they were started; what is still asked is refused."""
        with self._lock:
            self._is_closed = True
        for worker in self._workers:
            worker.end()
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        with suppress(Empty):
            while True:
                if (job := self._jobs.get_nowait()) is not None:
                    refuse(job, closed())

    @property
    def processes(self) -> list[int]:
        """The ids of the worker processes that run now."""
        return [process for worker in self._workers if (process := worker.process) is not None]

    def decode(
        self, clips: Iterable[HasAudio], *, seconds: float = PRETRAINED_SECONDS, ahead: int = 0
    ) -> Iterator[Decoded | AudioError]:
        """Decode clips; results come in their order.

        Args:
            clips: taken one by one, as they are needed.
            seconds: the most to decode of each, in seconds.
            ahead: how many are decoded before they are asked for (count); at least as many as the workers can have.

        Raises:
            EmonetError: if no worker process can be started, or a store of objects does not answer.
        """
        for answer in self._answers((Job(clip, seconds) for clip in clips), ahead):
            assert not isinstance(answer, AudioInfo)
            yield answer

    def probe(self, recordings: Iterable[HasAudio]) -> Iterator[AudioInfo | AudioError]:
        """Tell how long whole recordings are, in their order.

        Raises:
            EmonetError: if no worker process can be started, or a store of objects does not answer.
        """
        for answer in self._answers((Job(one, None) for one in recordings), PROBED):
            assert not isinstance(answer, Decoded)
            yield answer

    def _answers(self, jobs: Iterable[Job], ahead: int) -> Iterator[Answer]:
        self.start()
        waiting: deque[Job] = deque()
        ahead = max(ahead, DEPTH * len(self._workers))
        try:
            for job in jobs:
                self._put(job)
                waiting.append(job)
                if len(waiting) > ahead:
                    yield waiting.popleft().answer.result()
            while waiting:
                yield waiting.popleft().answer.result()
        finally:
            for job in waiting:
                job.answer.cancel()

    def _put(self, job: Job) -> None:
        with self._lock:
            if self._is_closed:
                raise closed()
            self._jobs.put(job)


def shared_decoders() -> Decoders:
    """The decoders that everything in this process shares but an extraction; they end with it."""
    return _shared(os.getpid())  # a fork has none of its parent's threads


@cache
def _shared(_: int) -> Decoders:
    decoders = Decoders()
    atexit.register(decoders.close)
    return decoders
