"""Workers of a sweep on a Ray cluster: the same processes as on one machine, where Ray finds room for them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Self, final

from emonet.errors import EmonetError, RequestError
from emonet.runtime import connected, is_shared, packed, place, require_versions, unpacked, versions
from emonet.tracking import sqlite_path
from experiments.core import SweepConfig, console
from experiments.sweep.worker import Job
from experiments.sweep.workers import GRACE, Ended, last_line, started

PATIENCE = 30.0  # seconds without a place for a worker, after which it is told what they wait for
START_SECONDS = 600.0  # without a place for any: as long as a cloud takes to start a machine
_PARTS = 10_000  # of a GPU, which Ray counts in
REPLACED = 3  # times that a worker is started anew whose node or process was lost


def require_reachable(sweep: SweepConfig, storage: str) -> None:
    """That workers on other machines can use the study.

    Raises:
        RequestError: if its storage is a file.
    """
    if sweep.engine == "local":
        if sweep.address is not None:
            raise RequestError("an address is for --engine ray", found=sweep.address, hint="--engine ray")
        return
    if is_shared(sweep.address) and sqlite_path(storage) is not None:
        raise RequestError(
            "a study in SQLite cannot be shared between machines: network drives break its locks",
            where=storage,
            hint="--storage postgresql+psycopg2://USER@HOST/DATABASE; without --address, workers are on this machine",
        )


class RemoteWorker:
    """Starts a worker on whatever node this is, and watches it; an actor of Ray."""

    def start(
        self, command: Sequence[str], number: int, job: str, log: Path, folder: Path, theirs: dict[str, str]
    ) -> str | bytes:
        """Start it; the worker's identity, or an error as `emonet.runtime.packed` makes it.

        Args:
            command: that starts a worker, before its number.
            number: of the worker.
            job: a `Job` as JSON.
            log: file for what it prints, on a file system that all nodes share.
            folder: that the sweep works in.
            theirs: versions of the sweep's machine.
        """
        try:
            require_versions(theirs)
            if not folder.is_dir() or not log.parent.is_dir():
                raise RequestError(
                    "a node of the cluster does not see the folder that the sweep works in",
                    where=log.parent if folder.is_dir() else folder,
                    hint="a file system that all nodes share, mounted at the same place; --runs FOLDER on it",
                )
        except EmonetError as error:
            return packed(error)
        os.chdir(folder)
        self._log = log
        self._process = started([*command, str(number)], Job.model_validate_json(job), log, dict(os.environ))
        return f"{place()}/{self._process.pid}"

    def wait(self) -> tuple[int, str]:
        """Its exit code once it has ended, and the last line of its log."""
        return self._process.wait(), last_line(self._log)

    def stop(self) -> None:
        """End it, in order if it can."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)
        self._process.kill()


@dataclass(eq=False)
class _Place:
    """One of them, as the sweep sees it."""

    actor: Any
    start: Any
    asked: dict[str, float]
    wait: Any = None
    lost: int = 0


@final
class ClusterWorkers:
    """As `experiments.sweep.workers.Workers`, on a cluster; one whose node dies is started again elsewhere.

    Args:
        count: how many; those that there is no room for wait until there is.
        job: what they are to do.
        folder: gets their logs, `worker-N.log`.
        command: that starts one, before its number.
        address: of the cluster.

    Raises:
        RequestError: if the cluster cannot be used.
    """

    def __init__(self, count: int, job: Job, folder: Path, command: Sequence[str], *, address: str | None) -> None:
        self._opened = ExitStack()
        self._cluster = self._opened.enter_context(connected(address))
        self._ray = self._cluster.ray
        self._job, self._folder, self._command = job, folder.resolve(), tuple(command)
        self._count, self._began, self._has_told = count, time.monotonic(), False
        self._places = {number: self._placed(number) for number in range(count)}
        self._identities: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._opened:
            self.stop()

    @property
    def running(self) -> int:
        """How many are at work, or wait for a place (count)."""
        return len(self._places)

    @property
    def identities(self) -> frozenset[str]:
        """All that have begun, as in the records of their trials."""
        return frozenset(self._identities)

    def broken(self) -> list[Ended]:
        """Those that ended by an error or were killed since this was last asked.

        Raises:
            RequestError: if a node cannot do it: it has other versions, or does not see the sweep's folder.
            EmonetError: if no node has had room for a worker for ten minutes.
        """
        self._look_after_waiting()
        found = []
        for number, one in list(self._places.items()):
            call = one.start if one.wait is None else one.wait
            if not self._ray.wait([call], timeout=0)[0]:
                continue
            try:
                answer = self._ray.get(call)
            except self._ray.exceptions.RayError:
                found += self._lost(number, one)
                continue
            if one.wait is not None:
                del self._places[number]
                code, last = answer
                found += [Ended(number, code, last, self._log(number))] if code else []
            elif isinstance(answer, bytes):
                raise unpacked(answer)
            else:
                self._identities.add(answer)
                one.wait = one.actor.wait.remote()
        return found

    def stop(self) -> None:
        """End them: each notes its trial as interrupted; one that does not answer in time is killed."""
        places, self._places = list(self._places.values()), {}
        with suppress(Exception):  # Ray may be gone
            ending = [one.actor.stop.remote() for one in places if one.wait is not None]
            if ending:
                self._ray.wait(ending, num_returns=len(ending), timeout=GRACE)
        for one in places:
            with suppress(Exception):
                self._ray.kill(one.actor)

    def _look_after_waiting(self) -> None:
        """Those without a place ask for less where no node has as much any more; what they wait for is told."""
        waiting = {number: one for number, one in self._places.items() if one.wait is None}
        if not waiting:
            return
        nodes = self._nodes()
        asks = room(nodes, self._count)
        for number, one in waiting.items():
            if one.asked != asks and not _is_there(nodes, one.asked):
                self._ray.kill(one.actor)
                self._places[number] = self._placed(number, one.lost)
        seconds = time.monotonic() - self._began
        if seconds < PATIENCE:
            return
        needed = f"{asks['num_cpus']} processors, {asks['num_gpus']:g} GPUs each"
        if not self._has_told:
            self._has_told = True
            console.say(
                f"{console.counted(len(waiting), 'worker')} of {self._count} without a place ({needed}); waiting"
            )
        if seconds > START_SECONDS and not self._identities:
            raise EmonetError(
                f"no worker of the sweep was placed within {START_SECONDS:.0f} s",
                expected=f"a node with room for {needed}",
                hint="ray status; fewer --workers",
            )

    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self._cluster.nodes]

    def _lost(self, number: int, one: _Place) -> list[Ended]:
        """A worker's node or process has died; its trial fails by its missing signs of life."""
        del self._places[number]
        if one.lost == REPLACED:
            return [Ended(number, 1, "its node or its process was lost again and again", self._log(number))]
        self._places[number] = self._placed(number, one.lost + 1)
        self._began, self._has_told = time.monotonic(), False  # the new one gets its time, too
        return []

    def _placed(self, number: int, lost: int = 0) -> _Place:
        asked = room(self._nodes(), self._count)
        options = {**asked, "scheduling_strategy": "SPREAD", "max_concurrency": 2}
        actor = self._ray.remote(RemoteWorker).options(**options).remote()
        arguments = self._command, number, self._job.model_dump_json(), self._log(number), Path.cwd(), versions()
        return _Place(actor, actor.start.remote(*arguments), asked, lost=lost)

    def _log(self, number: int) -> Path:
        return self._folder / f"worker-{number}.log"


def room(nodes: Sequence[Mapping[str, float]], count: int) -> dict[str, float]:
    """What each of some workers may ask for, so that all have a place at once where that is possible.

    Where there are GPUs, workers are beside them, and several share one where there are too few.

    Args:
        nodes: the resources of each, as Ray names them (processors: count; GPUs: count).
        count: of workers, at least 1.

    Returns:
        Ray's options: processors, at least 1; GPUs, at most 1.
    """
    cpus, gpus = ([int(node.get(kind, 0)) for node in nodes] for kind in ("CPU", "GPU"))
    shared = ceil(count / sum(gpus)) if any(gpus) else 0  # workers on a GPU
    most = [gpu * shared if shared else count for gpu in gpus]  # on each node, by its GPUs

    def places(each: int) -> int:
        return sum(min(cpu // each, some) for cpu, some in zip(cpus, most, strict=True))

    fits = (each for each in range(max(cpus, default=1), 1, -1) if places(each) >= count)
    return {"num_cpus": next(fits, 1), "num_gpus": _PARTS // shared / _PARTS if shared else 0}


def _is_there(nodes: Sequence[Mapping[str, float]], asked: Mapping[str, float]) -> bool:
    """Whether some node has as much as a worker asks for, be it free or not."""
    return any(node.get("CPU", 0) >= asked["num_cpus"] and node.get("GPU", 0) >= asked["num_gpus"] for node in nodes)
