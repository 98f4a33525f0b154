"""Crew: groups of experts spread over devices, one process on each, which share what is in memory or read."""

from __future__ import annotations

import pickle
import select
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any, final

import torch

from cache.loading import SharedArray, SharedReading, as_error
from datamodules.expert_inputs import Inputs
from datamodules.experts import ExpertsDataModule
from emonet.errors import EmonetError
from emonet.experts import Scaling
from emonet.runtime import Child, ChildDiedError, Progress, packed, unpacked
from emonet.training import TrainingPlan
from lightningmodules.experts.finished import TrainedGroup
from lightningmodules.experts.wanted import TrainingCallbacks, TrainingRequest
from lightningmodules.experts.worker import DONE, EPOCH, LOADED, MEMORY, POOL, PROGRESS, REFUSED, GroupJob, Job

ENTRY = "lightningmodules.experts.worker:serve"
START_SECONDS = 600.0  # to import PyTorch on the slowest network drive
PATIENCE = 600.0  # seconds for the rest of a message that has begun


def train_on(
    devices: Sequence[str],
    wanted: TrainingRequest,
    watch: TrainingCallbacks,
    plan: TrainingPlan,
    inputs: Inputs,
    scaling: Scaling | None,
) -> list[TrainedGroup]:
    """Train the groups of a plan, one process on each device; in the order of their experts.

    Where training clips are in memory, all processes see the same copy, and each device gets the next group when it is
    done with one. Where the store is read in each epoch, as many groups as there are devices begin together, and one
    read feeds them all; those that follow on a device begin when all of these are done, with a read of their own.

    A process that dies costs its group, which another one does again; one that cannot start is done without. Where
    memory runs out, its group and those that have not begun are halved.

    Args:
        devices: e.g. `cuda:0`, `cuda:1`; one may stand several times.
        wanted: what is to be trained, and how.
        watch: who is told; what `watch.report` raises ends the training and is passed on.
        plan: how many groups.
        inputs: prepared clips.
        scaling: of them.

    Raises:
        EmonetError: if a training diverged, the store cannot be read, or no process is left.
    """
    with ExitStack() as opened:
        held = {
            split: tuple(SharedArray.of(tensor.numpy(), watch.scratch) for tensor in features)
            for split, features in inputs.held.items()
        }
        for arrays in held.values():
            for array in arrays:
                opened.callback(array.close)
        here = max(1, devices.count("cpu"))
        workers = [_Worker(device, opened.enter_context(Child(ENTRY))) for device in devices]
        for worker in workers:
            job = Job(
                wanted=replace(wanted, inputs=None),
                device=worker.device,
                threads=max(1, torch.get_num_threads() // here),
                spec=inputs.spec,
                held={split: tuple(array.place for array in arrays) for split, arrays in held.items()},
                memory_bytes=inputs.memory_bytes,
                scaling=scaling,
                scratch=watch.scratch,
            )
            try:
                worker.begin(job)
            except EmonetError as error:
                worker.dead = True
                watch.say(f"nothing is trained on {worker.device}: {error}")
        progress = opened.enter_context(
            watch.show(f"training experts on {len(devices)} devices ({wanted.spec.form})", "steps")
        )
        return _Crew(workers, wanted.data(inputs), watch, plan, progress).work()


@final
class _Worker:
    """One process, as the parent sees it."""

    def __init__(self, device: str, child: Child) -> None:
        self.device, self.child = device, child
        self.group: GroupJob | None = None
        self.dead = False

    def begin(self, job: Job) -> None:
        """Tell it what it trains on.

        Raises:
            EmonetError: if it cannot start.
        """
        self.child.started(START_SECONDS)
        self.send(pickle.dumps(job))

    def send(self, content: bytes) -> None:
        with suppress(BrokenPipeError, TimeoutError):  # it has died or stands still, which reading explains
            self.child.send(content, PATIENCE)

    def answer(self, error: Exception | None) -> None:
        """A pool is there that it asked for, or cannot be read."""
        self.send(b"" if error is None else packed(as_error(error)))


@dataclass
class _Steps:
    """Steps of the groups so far, those that are trained again included."""

    done: int = 0
    total: int = 0


@final
class _Crew:
    """Hands groups to processes until all are trained."""

    def __init__(
        self,
        workers: list[_Worker],
        data: ExpertsDataModule,
        watch: TrainingCallbacks,
        plan: TrainingPlan,
        progress: Progress,
    ) -> None:
        self._workers, self._data, self._watch = workers, data, watch
        self._plan, self._progress = plan, progress
        self._store, self._order = data.inputs.store, data.shared_order()
        self._waiting: deque[GroupJob] = deque()  # all that have not begun
        self._done: dict[int, TrainedGroup] = {}
        self._steps: dict[int, _Steps] = {}
        self._reading: SharedReading | None = None
        start = 0
        for size in plan.groups:
            self._waiting.append(GroupJob(start, start + size))
            start += size

    def work(self) -> list[TrainedGroup]:
        """Train all groups."""
        while self._waiting:
            with self._shared() as self._reading:
                self._hand_out()
                while busy := [worker for worker in self._workers if worker.group is not None]:
                    ready, _, _ = select.select([worker.child for worker in busy], [], [])
                    for worker in busy:
                        if worker.child in ready:
                            self._hear(worker)
                    if self._reading is None:  # a shared read is for those with whom it began
                        self._hand_out()
        return [self._done[start] for start in sorted(self._done)]

    def _shared(self) -> SharedReading | nullcontext[None]:
        """One read for as many groups as can begin; none where clips are in memory."""
        if self._order is None:
            return nullcontext()
        answers: dict[int, Callable[[Exception | None], None]] = {
            self._workers.index(worker): worker.answer for worker in self._alive()[: len(self._waiting)]
        }
        return SharedReading(self._store, self._order, answers, self._watch.scratch)

    def _hand_out(self) -> None:
        """A group for each process that has none."""
        buffers = None if self._reading is None else self._reading.place
        for worker in self._alive():
            if self._waiting and worker.group is None:
                worker.group = replace(self._waiting.popleft(), buffers=buffers)
                worker.send(pickle.dumps(worker.group))

    def _hear(self, worker: _Worker) -> None:
        assert worker.group is not None
        try:
            kind, content = worker.child.receive(PATIENCE)
        except (ChildDiedError, TimeoutError) as error:
            self._lost(worker, str(error) or "no answer")
            return
        if kind == LOADED:
            return
        if kind == REFUSED:
            raise unpacked(content)
        told: Any = pickle.loads(content.data) if len(content) else None  # noqa: S301 from our own process
        if kind == POOL:
            assert self._reading is not None
            self._reading.ask(self._workers.index(worker), told)
        elif kind == PROGRESS:
            self._show(worker.group, *told)
        elif kind == EPOCH:
            self._watch.report(*told)
        elif kind == DONE:
            self._done[worker.group.start] = told
            self._end(worker)
        elif kind == MEMORY:
            self._halve(worker)

    def _end(self, worker: _Worker) -> GroupJob:
        """A worker has nothing to do."""
        group, worker.group = worker.group, None
        assert group is not None
        if self._reading is not None:
            self._reading.leave(self._workers.index(worker))
        return replace(group, buffers=None)

    def _lost(self, worker: _Worker, cause: str) -> None:
        worker.dead = True
        group = self._end(worker)
        self._waiting.appendleft(group)
        words = worker.child.last_words()
        self._alive(f"{cause}: {words}" if words else cause)
        experts = f"experts {group.start + 1} to {group.stop}"
        self._watch.say(f"the process on {worker.device} ended ({cause}); {experts} are trained again on another")

    def _alive(self, cause: str = "") -> list[_Worker]:
        alive = [worker for worker in self._workers if not worker.dead]
        if not alive:
            raise EmonetError(
                "all processes that train experts have ended",
                where=" ".join(worker.device for worker in self._workers),
                found=cause or None,
                hint="the same command with --heads.memory, or without --heads.devices",
            )
        return alive

    def _halve(self, worker: _Worker) -> None:
        group = self._end(worker)
        if len(group) == 1:
            raise EmonetError(
                "memory ran out while one expert was trained",
                where=worker.device,
                hint="--heads.precision bf16, or a smaller --heads.batch-size",
            )
        largest, devices = (len(group) + 1) // 2, len(self._alive())
        parts = [group, *self._waiting]
        while len(part := max(parts, key=len)) > largest or (len(parts) % devices and len(part) > 1):
            at = parts.index(part)
            parts[at : at + 1] = part.halves()
        self._waiting = deque(parts)
        sizes = {start: len(done.best_epoch) for start, done in self._done.items()}
        for part in [*parts, *(worker.group for worker in self._workers if worker.group is not None)]:
            sizes[part.start] = len(part)
        self._plan = replace(self._plan, groups=tuple(size for _, size in sorted(sizes.items())))
        self._watch.planned(self._plan)
        self._watch.say(f"memory ran out on {worker.device}; going on with {self._plan}")

    def _show(self, group: GroupJob, completed: int, total: int, note: str) -> None:
        """Steps of all groups: those that have not begun are taken for as long as the others."""
        steps = self._steps.setdefault(group.start, _Steps())
        steps.done, steps.total = max(steps.done, completed), total
        known = list(self._steps.values())
        to_come = max(0, len(self._plan.groups) - len(known)) * total
        whole = sum(each.total for each in known) + to_come
        self._progress(sum(each.done for each in known), whole, note)
