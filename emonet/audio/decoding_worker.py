"""A worker process that decodes, and the thread that keeps it busy: what a recording does to it costs that clip only.

It is spoken to over two pipes of its own; the last line that it has printed explains a crash.
"""

from __future__ import annotations

import json
import os
import pickle
import threading
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import final

import numpy as np

from emonet.audio.decoding import AudioInfo, Decoded, decode, probe
from emonet.audio.excerpts import Excerpt, HasAudio
from emonet.audio.inside import patience_for
from emonet.audio.notices import Notice
from emonet.clips import located
from emonet.errors import AudioError, EmonetError
from emonet.runtime import Child, ChildDiedError, Parent, packed, unpacked, working_folder

START_SECONDS = 300.0  # to import NumPy and libsndfile, on the slowest network drive
DEPTH = 2  # clips that a worker has at a time: the one it decodes, and the next, so that it never waits for us
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_FACTS, _SAMPLES, _INFO, _REJECTED, _FAILED = 1, 2, 3, 4, 5  # kinds of answers; a clip that decodes has the first two

Answer = Decoded | AudioInfo | AudioError


@dataclass(slots=True, eq=False)
class Job:
    """What a worker is asked for.

    Args:
        clip: to be decoded.
        seconds: the most to decode; None only asks for the length.
        answer: what became of it.
        tried: whether a process has been lost with it.
    """

    clip: HasAudio
    seconds: float | None
    answer: Future[Answer] = field(default_factory=Future)
    tried: bool = False


def serve() -> None:
    """Decode clips that come over the pipe, in a worker process."""
    parent = Parent(gone=lambda: os._exit(0))
    for request in parent.requests():
        _forget_words()
        folder, audio, start, end, channel, seconds = pickle.loads(request)  # noqa: S301 from the process that started this one
        audio = located(audio, folder)
        try:
            if seconds is None:
                info = probe(audio)
                parent.send(_INFO, json.dumps([info.seconds, info.sample_rate, info.channels]).encode())
                continue
            heard = decode(audio, start=start, end=end, seconds=seconds, channel=channel)
        except AudioError as error:
            parent.send(_REJECTED, packed(error))
        except EmonetError as error:  # what keeps all clips from being read, as a store that does not answer
            parent.send(_FAILED, packed(error))
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
class Worker:
    """Keeps one worker process busy, in a thread of its own; another process takes the place of one that dies."""

    def __init__(self, jobs: SimpleQueue[Job | None], timeout: float) -> None:
        self._jobs = jobs
        self._timeout = timeout
        self._flight: deque[Job] = deque()  # what the process has; it is at the first of them
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
        self._let_go(closed())
        self._close()

    def _start(self) -> Child:
        self._close()
        with self._lock:
            if self._ended.is_set():
                raise _EndedError
            child = self._child = Child("emonet.audio.decoding_worker:serve", environment=ONE_THREAD)
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

    def _send(self, child: Child, job: Job) -> bool:
        """Hand over a clip; False if the process is dead or stands still, which reading its answers explains."""
        try:
            clip = job.clip
            channel = clip.channel if isinstance(clip, Excerpt) else None
            request = (working_folder(), clip.audio, clip.start, clip.end, channel, job.seconds)
            child.send(pickle.dumps(request), patience_for(self._flight[0].clip.audio, self._timeout))
        except (BrokenPipeError, TimeoutError):
            return False
        return True

    def _answer(self, child: Child) -> Child:
        """Wait for what became of the first clip; returns the process that goes on."""
        try:
            answer = _answer(child, patience_for(self._flight[0].clip.audio, self._timeout))
        except (ChildDiedError, TimeoutError) as error:
            if self._ended.is_set():
                raise _EndedError from error
            if self._flight[0].tried:
                refused = AudioError(self._reason(child, error))
                self._flight.popleft().answer.set_result(refused)
            else:
                self._flight[0].tried = True
            return self._start()
        waiting = self._flight.popleft().answer
        if isinstance(answer, Decoded | AudioInfo | AudioError):
            waiting.set_result(answer)
        else:
            waiting.set_exception(answer)
        return child

    def _reason(self, child: Child, error: ChildDiedError | TimeoutError) -> str:
        if not isinstance(error, TimeoutError):
            return crashed(child, error)
        return took_long(patience_for(self._flight[0].clip.audio, self._timeout))

    def _refuse(self, error: EmonetError) -> bool:
        """Answer all that is asked now with what keeps a process from starting; False if no more is to come."""
        self._let_go(error)
        with suppress(Empty):
            while (job := self._jobs.get_nowait()) is not None:
                refuse(job, error)
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


def took_long(timeout: float) -> str:
    """The reason why a recording is given up whose decoder says nothing for so many seconds."""
    return f"decoding took longer than {timeout:g} s"


def crashed(child: Child, error: Exception) -> str:
    """The reason why a recording is given up that ended its decoder, with the last line that this printed."""
    return f"the decoder crashed ({error})" + (f": {words}" if (words := child.last_words()) else "")


def refuse(job: Job, error: EmonetError) -> None:
    """Answer a job by an error, unless nobody waits for it any more."""
    if job.answer.set_running_or_notify_cancel():
        job.answer.set_exception(error)


def closed() -> EmonetError:
    """What is raised of a clip that closed decoders are asked for."""
    return EmonetError("the decoders are closed", hint="decode within the block that opened them")


def _broken(error: Exception) -> EmonetError:
    return EmonetError(
        "a thread that decodes has ended unexpectedly",
        found=f"{type(error).__name__}: {error}",
        hint="the same command again: it goes on where it stopped",
    )


def _answer(child: Child, patience: float) -> Answer | EmonetError:
    """What became of the clip that a worker is at; an error that is none of the clip is raised where it is awaited."""
    kind, content = child.receive(patience)
    if kind in (_REJECTED, _FAILED):
        return unpacked(content)
    facts = json.loads(content.tobytes())
    if kind == _INFO:
        return AudioInfo(*facts)
    _, samples = child.receive(patience)
    total, digest, notices = facts
    return Decoded(samples.view(np.float32), total, digest, tuple(Notice(*notice) for notice in notices))
