"""Multi-GPU extraction: one process per GPU fills one store and shares its shards as separate runs would."""

from __future__ import annotations

import os
import pickle
import select
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, final

import torch

from cache.extraction.report import ExtractionReport, speed_fields
from cache.extraction.throughput import Meter, Speed
from cache.writing import Notices
from emonet.clips import Corpus
from emonet.configs import ExtractionConfig
from emonet.errors import EmonetError
from emonet.runtime import Child, ChildDiedError, Parent, Progress, ignore, packed, resolve_device, unpacked

START_SECONDS = 600.0  # to import PyTorch on the slowest network drive
PATIENCE = 600.0  # seconds for the rest of a message that has begun
GRACE = 60.0  # seconds in which a process that was asked to end may write the shards that it has complete
_LOADED, _WAITING, _REPLACING, _PROGRESS, _REPORT, _REFUSED = range(1, 7)  # kinds of messages to the parent
_FORCE, _JOIN = b"force", b"join"  # messages to a process that has loaded its encoder
_REPLACE = b"replace"  # to one that is about to make the store


@dataclass(frozen=True)
class Job:
    """What a process does.

    Args:
        device: e.g. `cuda:0`.
        corpus: its clips become the rows.
        place: folder or hub id that the encoder is loaded from.
        path: the folder NAME.zarr.
        config: how.
        source: where the encoder came from, for the record.
    """

    device: str
    corpus: Corpus
    place: str
    path: Path
    config: ExtractionConfig
    source: str


def choose(config: ExtractionConfig) -> tuple[str, ...]:
    """The devices of a configuration: those that it names, or else all GPUs; empty if this process' own will do.

    Raises:
        RequestError: if it names one that is not there.
    """
    for device in config.devices:
        resolve_device(device)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return config.devices or (tuple(f"cuda:{gpu}" for gpu in range(gpus)) if gpus > 1 else ())


def extract_on(
    devices: Sequence[str],
    corpus: Corpus,
    place: str,
    path: Path,
    config: ExtractionConfig,
    *,
    source: str,
    force: bool = False,
    progress: Progress = ignore,
    notices: Notices | None = None,
) -> ExtractionReport:
    """`cache.extraction.extract` with one process on each device.

    A process that dies costs its unfinished shards, which the others do again; the report names it.

    Args:
        devices: e.g. `cuda:0`, `cuda:1`; one may stand several times.
        corpus: its clips become the rows, in their order.
        place: folder or hub id that each process loads the encoder from.
        path: the folder NAME.zarr.
        config: how.
        source: where the encoder came from, for the record.
        force: start anew where a store already exists.
        progress: called with clips done.
        notices: called, in this process, before one begins.

    Raises:
        RequestError: if a process refuses the request, as `extract` does.
        EmonetError: if no process could finish; with the reason of the first that stopped.
    """
    started = time.monotonic()
    jobs = [Job(device, corpus, place, path, config, source) for device in devices]
    with _Crew(jobs, progress, notices or Notices()) as crew:
        crew.work(force=force)
        return crew.report(time.monotonic() - started)


def serve() -> None:
    """Do a job that comes over the pipe, in a process of its own."""
    from cache.extraction.run import (
        encoder_settings,
        extract,
    )  # only here: the process that starts these needs no encoder
    from emonet.encoders import open_encoder

    signal.signal(signal.SIGTERM, _stop)
    parent = Parent(gone=lambda: os.kill(os.getpid(), signal.SIGTERM))
    requests = parent.requests()
    job: Job = pickle.loads(next(requests))  # noqa: S301 from the process that started this one
    try:
        config = job.config
        encoder = open_encoder(job.place, device=job.device, **encoder_settings(config))
        parent.send(_LOADED)
        force = next(requests) == _FORCE
        meter = Meter(encoder.flops_per_clip)

        def progress(completed: int, total: int, note: str = "") -> None:  # noqa: ARG001 the parent makes its own
            parent.send(_PROGRESS, pickle.dumps((completed, total, meter.speed())))

        def replacing() -> None:
            parent.send(_REPLACING)
            next(requests)

        report = extract(
            job.corpus,
            encoder,
            job.path,
            config,
            source=job.source,
            force=force,
            progress=progress,
            meter=meter,
            notices=Notices(replacing, waiting=lambda: parent.send(_WAITING)),
        )
    except EmonetError as error:
        _say_last(parent, _REFUSED, packed(error))
    else:
        _say_last(parent, _REPORT, report.model_dump_json().encode())


def _say_last(parent: Parent, kind: int, content: bytes) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # nothing is left that could be cut short
    parent.send(kind, content)


def _stop(*_: object) -> NoReturn:
    """As Ctrl-C does: shards whose states are complete are still written."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would cut that short
    raise KeyboardInterrupt


@dataclass(eq=False)
class _Process:
    """One of them, as the parent sees it."""

    job: Job
    child: Child
    loaded: bool = False  # its encoder, so that it can begin
    begun: bool = False
    ended: bool = False
    speed: Speed = field(default_factory=Speed)
    report: ExtractionReport | None = None
    error: EmonetError | None = None


@final
class _Crew:
    """The processes of one extraction; a context manager that leaves none behind."""

    def __init__(self, jobs: Sequence[Job], progress: Progress, notices: Notices) -> None:
        self._jobs = jobs
        self._progress = progress
        self._notices = notices
        self._opened = ExitStack()
        self._processes: list[_Process] = []
        self._done_before: int | None = None  # clips; not known until the first process has prepared the store
        self._done = 0

    def __enter__(self) -> _Crew:
        with ExitStack() as opened:
            for job in self._jobs:
                child = opened.enter_context(Child("cache.extraction.multi_gpu:serve"))
                self._processes.append(_Process(job, child))
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        with self._opened:
            for process in self._processes:
                process.child.ask_to_end()
            until = time.monotonic() + GRACE
            for process in self._processes:
                process.child.wait(max(0.0, until - time.monotonic()))

    def work(self, *, force: bool) -> None:
        """Let them work until all have ended."""
        for process in self._processes:
            process.child.started(START_SECONDS)
            _tell(process, pickle.dumps(process.job))
        while running := [process for process in self._processes if not process.ended]:
            children = [process.child for process in running]
            ready, _, _ = select.select(children, [], [])
            for process in running:
                if process.child in ready:
                    self._hear(process)
            self._let_begin(force=force)

    def report(self, seconds: float) -> ExtractionReport:
        """What they made together.

        Raises:
            EmonetError: if none has finished.
        """
        reports = [process.report for process in self._processes if process.report]
        errors = [(process.job.device, process.error) for process in self._processes if process.error]
        if not reports:
            raise errors[0][1]
        best = max(reports, key=lambda report: report.complete)
        return ExtractionReport.model_validate(
            best.model_dump()
            | speed_fields(self._speed(), seconds)
            | {
                "workers": sum(report.workers for report in reports),
                "lost": tuple(f"{device}: {error.what}" for device, error in errors),
            }
        )

    def _let_begin(self, *, force: bool) -> None:
        """One process makes or checks the store, the others follow: `force` is for the first."""
        if self._done_before is None:
            for process in [process for process in self._processes if not process.ended][:1]:
                self._begin(process, _FORCE if force else _JOIN)
        else:
            for process in self._processes:
                self._begin(process, _JOIN)

    def _begin(self, process: _Process, how: bytes) -> None:
        if process.loaded and not process.begun and not process.ended:
            process.begun = True
            _tell(process, how)

    def _hear(self, process: _Process) -> None:
        try:
            kind, content = process.child.receive(PATIENCE)
        except (ChildDiedError, TimeoutError) as error:
            process.ended, process.error = True, _died(process, str(error) or "no answer")
            return
        if kind == _LOADED:
            process.loaded = True
        elif kind == _WAITING:
            self._notices.waiting()
        elif kind == _REPLACING:
            self._notices.replacing()
            _tell(process, _REPLACE)
        elif kind == _PROGRESS:
            completed, total, process.speed = pickle.loads(content.data)  # noqa: S301 from our own process
            self._show(completed, total)
        elif kind == _REFUSED:
            process.ended, process.error = True, unpacked(content)
        else:
            process.ended, process.report = True, ExtractionReport.model_validate_json(content.tobytes())

    def _show(self, completed: int, total: int) -> None:
        if self._done_before is None:
            self._done_before = completed
        speed = self._speed()
        self._done = max(self._done, completed, min(total, self._done_before + speed.clips))
        self._progress(self._done, total, speed.note())

    def _speed(self) -> Speed:
        return Speed.joined([process.speed for process in self._processes if process.speed.clips])


def _tell(process: _Process, message: bytes) -> None:
    with suppress(BrokenPipeError, TimeoutError):  # it has died or stands still, which reading its messages explains
        process.child.send(message, PATIENCE)


def _died(process: _Process, cause: str) -> EmonetError:
    return EmonetError(
        f"the extraction process ended ({cause})",
        where=process.job.device,
        found=process.child.last_words() or None,
        hint="the same command again: it goes on where it stopped",
    )
