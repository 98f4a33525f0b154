"""Decoding in worker processes: a recording that crashes the decoder, or hangs it, costs that clip and nothing else.

Each worker has two pipes of its own. The workers of a library's pool (concurrent.futures, pebble, multiprocessing)
share one queue and its lock: one that dies at the wrong moment breaks the pool, or blocks the others for ever.
"""

from __future__ import annotations

import atexit
import json
import os
import pickle
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol, final, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from emonet.audio.decoding import AudioInfo, Decoded, decode, probe
from emonet.audio.notices import Notice
from emonet.errors import AudioError, EmonetError
from emonet.runtime import Child, ChildDiedError, Parent, packed, unpacked
from emonet.windows import PRETRAINED_SECONDS

START_SECONDS = 300.0  # to import NumPy and libsndfile, on the slowest network drive
MOST_WORKERS = 8  # by default; beyond it they wait for the disk
PROBED = 64  # recordings whose lengths may wait to be asked for
DEPTH = 2  # clips that a worker has at a time: the one it decodes, and the next, so that it never waits for us
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
TIMEOUT = 60.0  # seconds that a try may take
_FACTS, _SAMPLES, _INFO, _REJECTED = 1, 2, 3, 4  # kinds of answers; a clip that decodes has the first two


@runtime_checkable  # so that tests can check annotations at run time
class HasAudio(Protocol):
    """What can be decoded; a `Clip`, for example."""

    @property
    def audio(self) -> Path | bytes:
        """Path of a file, or the encoded bytes of one."""

    @property
    def start(self) -> float | None:
        """Where to begin, in seconds; None is the beginning."""

    @property
    def end(self) -> float | None:
        """Where to stop, in seconds; None is the end."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A recording, or a part of one, of which nothing else is known.

    Args:
        audio: path of a file, or the encoded bytes of one.
        start: where to begin, in seconds; None is the beginning.
        end: where to stop, in seconds; None is the end.
    """

    audio: Path | bytes
    start: float | None = None
    end: float | None = None


Answer = Decoded | AudioInfo | AudioError


@dataclass(slots=True, eq=False)
class _Job:
    clip: HasAudio
    seconds: float | None  # the most to decode; None only asks for the length
    answer: Future[Answer] = field(default_factory=Future)
    tried: bool = False  # a process has been lost with it


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
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._workers = [_Worker(self._jobs, timeout) for _ in range(workers or min(MOST_WORKERS, processors()))]
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
                    _refuse(job, _closed())

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
            EmonetError: if no worker process can be started.
        """
        for answer in self._answers((_Job(clip, seconds) for clip in clips), ahead):
            assert not isinstance(answer, AudioInfo)
            yield answer

    def probe(self, recordings: Iterable[HasAudio]) -> Iterator[AudioInfo | AudioError]:
        """Tell how long whole recordings are, in their order.

        Raises:
            EmonetError: if no worker process can be started.
        """
        for answer in self._answers((_Job(one, None) for one in recordings), PROBED):
            assert not isinstance(answer, Decoded)
            yield answer

    def _answers(self, jobs: Iterable[_Job], ahead: int) -> Iterator[Answer]:
        self.start()
        waiting: deque[_Job] = deque()
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

    def _put(self, job: _Job) -> None:
        with self._lock:
            if self._is_closed:
                raise _closed()
            self._jobs.put(job)


def shared_decoders() -> Decoders:
    """The decoders that everything in this process shares but an extraction; they end with it."""
    return _shared(os.getpid())  # a fork has none of its parent's threads


@cache
def _shared(_: int) -> Decoders:
    decoders = Decoders()
    atexit.register(decoders.close)
    return decoders


def serve() -> None:
    """Decode clips that come over the pipe, in a worker process."""
    parent = Parent(gone=lambda: os._exit(0))
    for request in parent.requests():
        _forget_words()
        folder, audio, start, end, seconds = pickle.loads(request)  # noqa: S301 from the process that started this one
        audio = audio if isinstance(audio, bytes) else Path(folder) / audio
        try:
            if seconds is None:
                info = probe(audio)
                parent.send(_INFO, json.dumps([info.seconds, info.sample_rate, info.channels]).encode())
                continue
            heard = decode(audio, start=start, end=end, seconds=seconds)
        except AudioError as error:
            parent.send(_REJECTED, packed(error))
        else:
            notices = [[notice.kind, notice.text] for notice in heard.notices]
            parent.send(_FACTS, json.dumps([heard.total, heard.content, notices]).encode())
            parent.send(_SAMPLES, heard.samples.data.cast("B"))


def _forget_words() -> None:
    """Empty the file of what was printed: its last line explains a crash, and a million warnings fill no disk."""
    os.ftruncate(2, 0)
    os.lseek(2, 0, os.SEEK_SET)


class _EndedError(Exception):
    """The decoders are no longer wanted."""


@final
class _Worker:
    """Keeps one worker process busy, in a thread of its own; another process takes the place of one that dies."""

    def __init__(self, jobs: SimpleQueue[_Job | None], timeout: float) -> None:
        self._jobs = jobs
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
        """Do jobs until there is a None among them; what cannot be done is answered with the reason."""
        wanted = True
        while wanted:
            try:
                child = self._start()
                while (busy := self._fill(child)) is not None:
                    child = self._answer(busy)
                wanted = False
            except _EndedError:
                wanted = False
            except EmonetError as error:
                wanted = self._refuse(error) and self._await()
            except Exception as error:  # noqa: BLE001 whoever waits for a clip would wait for ever
                wanted = self._refuse(_broken(error)) and self._await()
        self._let_go(_closed())
        self._close()

    def _start(self) -> Child:
        self._close()
        with self._lock:
            if self._ended.is_set():
                raise _EndedError
            child = self._child = Child("emonet.audio.decoders:serve", environment=_ONE_THREAD)
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
            if not job.answer.set_running_or_notify_cancel():
                continue
            self._flight.append(job)
            if not self._send(child, job) and len(self._flight) == 1:
                child = self._start()  # it had died with nothing to do, which is no fault of this clip
        return child

    def _send(self, child: Child, job: _Job) -> bool:
        """Hand over a clip; False if the process is dead or stands still, which reading its answers explains."""
        try:
            request = pickle.dumps((_working_folder(), job.clip.audio, job.clip.start, job.clip.end, job.seconds))
            child.send(request, self._timeout)
        except (BrokenPipeError, TimeoutError):
            return False
        return True

    def _answer(self, child: Child) -> Child:
        """Wait for what became of the first clip; returns the process that goes on."""
        try:
            answer = _answer(child, self._timeout)
        except (ChildDiedError, TimeoutError) as error:
            if self._ended.is_set():
                raise _EndedError from error
            if self._flight[0].tried:
                self._flight.popleft().answer.set_result(AudioError(self._reason(child, error)))
            else:
                self._flight[0].tried = True
            return self._start()
        self._flight.popleft().answer.set_result(answer)
        return child

    def _reason(self, child: Child, error: ChildDiedError | TimeoutError) -> str:
        if isinstance(error, TimeoutError):
            return f"decoding took longer than {self._timeout:g} s"
        return f"the decoder crashed ({error})" + (f": {words}" if (words := child.last_words()) else "")

    def _refuse(self, error: EmonetError) -> bool:
        """Answer all that is asked now with what keeps a process from starting; False if no more is to come."""
        self._let_go(error)
        with suppress(Empty):
            while (job := self._jobs.get_nowait()) is not None:
                _refuse(job, error)
            return False
        return True

    def _let_go(self, error: EmonetError) -> None:
        while self._flight:
            self._flight.popleft().answer.set_exception(error)

    def _await(self) -> bool:
        """Wait for the next job, with which a process is tried to be started again; False if there is none."""
        job = self._jobs.get()
        if job is not None and job.answer.set_running_or_notify_cancel():
            self._flight.append(job)
        return job is not None


def _refuse(job: _Job, error: EmonetError) -> None:
    if job.answer.set_running_or_notify_cancel():
        job.answer.set_exception(error)


def _closed() -> EmonetError:
    return EmonetError("the decoders are closed", hint="decode within the block that opened them")


def _broken(error: Exception) -> EmonetError:
    return EmonetError(
        "a thread that decodes has ended unexpectedly",
        found=f"{type(error).__name__}: {error}",
        hint="the same command again: it goes on where it stopped",
    )


def _working_folder() -> str:
    """Where relative paths start from: the process may have gone elsewhere since its workers were started."""
    try:
        return os.getcwd()  # noqa: PTH109 as text
    except FileNotFoundError:  # it was removed: only whole paths are found
        return ""


def _answer(child: Child, patience: float) -> Answer:
    """What became of the clip that a worker is at."""
    kind, content = child.receive(patience)
    if kind == _REJECTED:
        return _rejection(content)
    facts = json.loads(content.tobytes())
    if kind == _INFO:
        return AudioInfo(*facts)
    _, samples = child.receive(patience)
    total, digest, notices = facts
    return Decoded(samples.view(np.float32), total, digest, tuple(Notice(*notice) for notice in notices))


def _rejection(content: UInt8[np.ndarray, " bytes"]) -> AudioError:
    error = unpacked(content)
    assert isinstance(error, AudioError)
    return error
