"""Workers of a sweep on this machine: processes started, watched, ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from emonet.runtime import place
from experiments.sweep.worker import Job

COMMAND = (sys.executable, "-P", "-m", "experiments.sweep.worker")  # -P: not those of the working folder
GRACE = 20.0  # seconds in which a worker that was told to stop notes what became of its trial
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Ended:
    """A worker that ended before it was told to, and not since nothing is left to do.

    Args:
        number: of the worker on this machine, from 0.
        code: its exit code; negative: the signal that killed it.
        last: the last line of its log.
        log: the file.
    """

    number: int
    code: int
    last: str
    log: Path

    def __str__(self) -> str:
        how = f"was killed by signal {-self.code}" if self.code < 0 else f"stopped with exit code {self.code}"
        return f"worker {self.number} {how} ({self.log}){self.last and f': {self.last}'}"


class Workers:
    """The workers of this sweep; a context manager that ends them on the way out.

    Args:
        count: how many.
        job: what they are to do.
        folder: gets their logs, `worker-N.log`.
        command: that starts one, before its number.
    """

    def __init__(self, count: int, job: Job, folder: Path, command: Sequence[str] = COMMAND) -> None:
        environment = {**os.environ, **_shared_threads(count)}
        self._logs = [folder / f"worker-{number}.log" for number in range(count)]
        self._processes = [
            started([*command, str(number)], job, log, environment) for number, log in enumerate(self._logs)
        ]
        self._seen: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def running(self) -> int:
        """How many are at work (count)."""
        return sum(process.poll() is None for process in self._processes)

    @property
    def identities(self) -> frozenset[str]:
        """All of them, as in the records of their trials."""
        return frozenset(f"{place()}/{process.pid}" for process in self._processes)

    def broken(self) -> list[Ended]:
        """Those that ended by an error or were killed since this was last asked."""
        found = []
        for number, process in enumerate(self._processes):
            if process.poll() and number not in self._seen:
                self._seen.add(number)
                found.append(Ended(number, process.returncode, last_line(self._logs[number]), self._logs[number]))
        return found

    def stop(self) -> None:
        """End them: each notes its trial as interrupted; one that does not answer in time is killed."""
        self._seen.update(range(len(self._processes)))  # what follows is no news
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        until = time.monotonic() + GRACE
        try:
            for process in self._processes:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, until - time.monotonic()))
        finally:  # also where somebody is in a hurry and presses Ctrl-C again
            for process in self._processes:
                process.kill()
                process.wait()
                if process.stdin:
                    with suppress(BrokenPipeError):
                        process.stdin.close()


def started(command: Sequence[str], job: Job, log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a worker.

    Args:
        command: with its number.
        job: what it is to do.
        log: file for what it prints.
        environment: its variables.
    """
    # Of a session of its own: Ctrl-C reaches the sweep alone, which ends its workers one by one. And with a pipe that
    # stays open: it closes when the sweep is killed, and the worker ends.
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=file, stderr=file, env=environment, start_new_session=True
        )
    if process.stdin:
        with suppress(BrokenPipeError):  # it ended already: that is seen soon
            process.stdin.write(job.model_dump_json().encode() + b"\n")
            process.stdin.flush()
    return process


def _shared_threads(workers: int) -> dict[str, str]:
    """Each worker's part of the processor cores; all of them for a single one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("OMP_NUM_THREADS", "")
    threads = max(1, (int(given) if given.isdigit() else cores) // workers)
    return {} if workers == 1 else dict.fromkeys(_THREADS, str(threads))


def last_line(log: Path) -> str:
    """The last line of a log that says anything."""
    lines = log.read_text("utf-8", errors="replace").split("\n")[-50:]
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
