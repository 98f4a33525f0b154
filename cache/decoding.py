"""Decoding in worker processes: a recording that crashes the decoder, or hangs it, costs that clip and nothing else.

Each worker has two pipes of its own. The workers of a library's pool (concurrent.futures, pebble, multiprocessing)
share one queue and its lock: one that dies at the wrong moment breaks the pool, or blocks the others for ever.
"""

from __future__ import annotations

import os
import pickle
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import final

import numpy as np
from jaxtyping import Float32, UInt8

from cache.children import Child, ChildDiedError, Parent, packed, unpacked
from emonet.audio import decode
from emonet.clips import Clip
from emonet.errors import AudioError, EmonetError

START_SECONDS = 300.0  # to import NumPy and libsndfile, on the slowest network drive
DEPTH = 2  # clips that a worker has at a time: the one it decodes, and the next, so that it never waits for us
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_SAMPLES, _REJECTED = 1, 2  # kinds of answers

Heard = Float32[np.ndarray, " _samples"] | AudioError
"""What became of a clip: 16 kHz mono, or the reason why there is none."""


@dataclass(slots=True, eq=False)
class _Job:
    clip: Clip
    heard: Future[Heard] = field(default_factory=Future)
    tried: bool = False  # a process has been lost with it


@final
class Decoders:
    """Worker processes that decode clips; a context manager.

    They start when it is entered and import in the background. They end when it is left, and by themselves when this
    process is killed, even while a decoder hangs.

    A worker may crash or stand still for reasons that have nothing to do with the recording: no memory, a network drive
    that was away. So a clip that it was lost with is tried once more, first in a fresh worker, before it is given up.

    Args:
        workers: processes (count).
        seconds: the most to decode of each clip, in seconds.
        timeout: a try that takes longer has failed, in seconds.
    """

    def __init__(self, workers: int, *, seconds: float, timeout: float) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._workers = [_Worker(self._jobs, seconds, timeout) for _ in range(workers)]
        self._threads = [threading.Thread(target=worker.run, name="decode", daemon=True) for worker in self._workers]

    def __enter__(self) -> Decoders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.end()
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    @property
    def processes(self) -> list[int]:
        """The ids of the worker processes that run now."""
        return [process for worker in self._workers if (process := worker.process) is not None]

    def decode(self, clips: Iterable[Clip], *, ahead: int) -> Iterator[Heard]:
        """Decode clips; results come in their order.

        Args:
            clips: taken one by one, as they are needed.
            ahead: how many are decoded before they are asked for (count); at least as many as the workers can have.

        Raises:
            EmonetError: if no worker process can be started.
        """
        waiting: deque[_Job] = deque()
        ahead = max(ahead, DEPTH * len(self._workers))
        try:
            for clip in clips:
                waiting.append(_Job(clip))
                self._jobs.put(waiting[-1])
                if len(waiting) > ahead:
                    yield waiting.popleft().heard.result()
            while waiting:
                yield waiting.popleft().heard.result()
        finally:
            for job in waiting:
                job.heard.cancel()


def serve(seconds: str) -> None:
    """Decode clips that come over the pipe, in a worker process.

    Args:
        seconds: the most to decode of each, in seconds.
    """
    parent = Parent(gone=lambda: os._exit(0))
    for request in parent.requests():
        _forget_words()
        audio, start, end = pickle.loads(request)  # noqa: S301 from the process that started this one
        try:
            samples = decode(audio, start=start, end=end, seconds=float(seconds))
        except AudioError as error:
            parent.send(_REJECTED, packed(error))
        else:
            parent.send(_SAMPLES, samples.data.cast("B"))


def _forget_words() -> None:
    """Empty the file of what was printed: its last line explains a crash, and a million warnings fill no disk."""
    os.ftruncate(2, 0)
    os.lseek(2, 0, os.SEEK_SET)


class _EndedError(Exception):
    """The decoders are no longer wanted."""


@final
class _Worker:
    """Keeps one worker process busy, in a thread of its own; another process takes the place of one that dies."""

    def __init__(self, jobs: SimpleQueue[_Job | None], seconds: float, timeout: float) -> None:
        self._jobs = jobs
        self._seconds = seconds
        self._timeout = timeout
        self._flight: deque[_Job] = deque()  # what the process has; it is at the first of them
        self._lock = threading.Lock()  # around the two below, since `end` is called by another thread
        self._ended = threading.Event()
        self._child: Child | None = None

    @property
    def process(self) -> int | None:
        """The process' id."""
        child = self._child
        return None if child is None else child.id

    def end(self) -> None:
        """Kill the process, and let no other one start."""
        with self._lock:
            self._ended.set()
            if self._child is not None:
                self._child.kill()

    def run(self) -> None:
        """Do jobs until there is a None among them."""
        try:
            child = self._start()
            while (busy := self._fill(child)) is not None:
                child = self._answer(busy)
        except _EndedError:
            pass
        except EmonetError as error:
            self._refuse(error)
        except Exception as error:  # noqa: BLE001 whoever waits for a clip would wait for ever
            self._refuse(_broken(error))
        finally:
            self._close()

    def _start(self) -> Child:
        self._close()
        with self._lock:
            if self._ended.is_set():
                raise _EndedError
            child = self._child = Child("cache.decoding:serve", repr(self._seconds), environment=_ONE_THREAD)
        try:
            child.started(START_SECONDS)
        except EmonetError as error:
            raise (_EndedError() if self._ended.is_set() else error) from error
        for job in self._flight:
            self._send(child, job)
        return child

    def _close(self) -> None:
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            child.close()

    def _fill(self, child: Child) -> Child | None:
        """Hand over as many clips as there are and the process may have; returns it, or None if there are no more."""
        while len(self._flight) < DEPTH:
            try:
                job = self._jobs.get(block=not self._flight)
            except Empty:
                break
            if job is None:
                return None
            if not job.heard.set_running_or_notify_cancel():
                continue
            self._flight.append(job)
            if not self._send(child, job) and len(self._flight) == 1:
                child = self._start()  # it had died with nothing to do, which is no fault of this clip
        return child

    def _send(self, child: Child, job: _Job) -> bool:
        """Hand over a clip; False if the process is dead or stands still, which reading its answers explains."""
        try:
            child.send(pickle.dumps((job.clip.audio, job.clip.start, job.clip.end)), self._timeout)
        except (BrokenPipeError, TimeoutError):
            return False
        return True

    def _answer(self, child: Child) -> Child:
        """Wait for what became of the first clip; returns the process that goes on."""
        try:
            kind, content = child.receive(self._timeout)
        except (ChildDiedError, TimeoutError) as error:
            if self._ended.is_set():
                raise _EndedError from error
            if self._flight[0].tried:
                self._flight.popleft().heard.set_result(AudioError(self._reason(child, error)))
            else:
                self._flight[0].tried = True
            return self._start()
        heard = content.view(np.float32) if kind == _SAMPLES else _rejection(content)
        self._flight.popleft().heard.set_result(heard)
        return child

    def _reason(self, child: Child, error: ChildDiedError | TimeoutError) -> str:
        if isinstance(error, TimeoutError):
            return f"decoding took longer than {self._timeout:g} s"
        return f"the decoder crashed ({error})" + (f": {words}" if (words := child.last_words()) else "")

    def _refuse(self, error: EmonetError) -> None:
        """Answer everything with the error that keeps processes from starting."""
        for job in self._flight:
            job.heard.set_exception(error)
        for job in iter(self._jobs.get, None):
            if job.heard.set_running_or_notify_cancel():
                job.heard.set_exception(error)


def _broken(error: Exception) -> EmonetError:
    return EmonetError(
        "a thread that decodes has ended unexpectedly",
        found=f"{type(error).__name__}: {error}",
        hint="the same command again: it goes on where it stopped",
    )


def _rejection(content: UInt8[np.ndarray, " bytes"]) -> AudioError:
    error = unpacked(content)
    assert isinstance(error, AudioError)
    return error
