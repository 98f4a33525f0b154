"""Worker: a process that trains groups of experts on one device, as another process hands them out."""

from __future__ import annotations

import gc
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cache.loading import SharedClips, SharedPlace
from datamodules.expert_inputs import Inputs
from datamodules.experts import ExpertsDataModule
from emonet.clips import Split
from emonet.errors import EmonetError
from emonet.experts import Features, InputSpec, Scaling
from emonet.runtime import Parent, packed, resolve_device, unpacked
from lightningmodules.experts.finished import TrainedGroup, fit_group
from lightningmodules.experts.wanted import TrainingRequest

LOADED, PROGRESS, EPOCH, POOL, DONE, MEMORY, REFUSED = range(1, 8)  # kinds of messages to the parent
PER_TARGET = "/"  # in the names of metrics that one group can tell
WHOLE = frozenset({"val_ua"})  # and what a group tells that has all classes


@dataclass(frozen=True)
class Job:
    """What a worker trains on.

    Args:
        wanted: the training of all, without its inputs.
        device: e.g. `cuda:1`.
        threads: of the processor that it may use (count).
        spec: what experts see: of the states, or of what stands for them.
        held: where prepared clips are in shared memory, by split; of others the store is read.
        memory_bytes: for clips that are read ahead where training clips are not held.
        scaling: of the inputs.
        scratch: folder for trained experts.
    """

    wanted: TrainingRequest
    device: str
    threads: int
    spec: InputSpec
    held: Mapping[Split, tuple[SharedPlace, ...]]
    memory_bytes: float
    scaling: Scaling | None
    scratch: Path

    def data(self) -> ExpertsDataModule:
        """The clips for all experts, of which each group takes some."""
        held = {split: _opened(places) for split, places in self.held.items()}
        return self.wanted.data(Inputs(self.wanted.store, self.spec, held, self.memory_bytes))


@dataclass(frozen=True)
class GroupJob:
    """A group to train: experts from `start` to before `stop`; `buffers` of a shared read, where there is one."""

    start: int
    stop: int
    buffers: SharedPlace | None = None

    @property
    def experts(self) -> slice:
        """Which of all."""
        return slice(self.start, self.stop)

    def __len__(self) -> int:
        return self.stop - self.start

    def halves(self) -> tuple[GroupJob, GroupJob]:
        """Two groups, each of half of its experts."""
        middle = (self.start + self.stop + 1) // 2
        return GroupJob(self.start, middle), GroupJob(middle, self.stop)


def serve() -> None:
    """Train the groups that come over the pipe, in a process of its own."""
    parent = Parent(gone=lambda: os._exit(1))
    requests = parent.requests()
    job: Job = pickle.loads(next(requests))  # noqa: S301 from the process that started this one
    try:
        device = resolve_device(job.device)
        torch.set_num_threads(job.threads)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        data = job.data()
        parent.send(LOADED)
        for request in requests:
            gc.collect()  # Lightning's trainer and module hold each other, and so would the last group's weights stay
            group: GroupJob = pickle.loads(request)  # noqa: S301 likewise
            _train(parent, requests, job, data, group)
    except EmonetError as error:
        parent.send(REFUSED, packed(error))


def _train(parent: Parent, requests: Iterator[bytes], job: Job, data: ExpertsDataModule, group: GroupJob) -> None:
    def ask(pool: int) -> None:
        parent.send(POOL, pickle.dumps(pool))
        if error := next(requests):
            raise unpacked(error)

    mine = data.narrowed(group.experts)
    order = mine.shared_order()
    if order is not None and group.buffers is not None:
        mine = mine.shared(SharedClips(order, group.buffers, ask))
    try:
        done = _fitted(job, mine, _sender(parent))
    except (RuntimeError, MemoryError) as error:
        if not is_memory(error):
            raise
        parent.send(MEMORY)
    else:
        parent.send(DONE, pickle.dumps(done))


def _fitted(job: Job, data: ExpertsDataModule, send: Callable[[int, object], None]) -> TrainedGroup:
    def report(metrics: Mapping[str, float], epoch: int) -> None:
        send(EPOCH, (group_metrics(metrics), epoch))

    def progress(completed: int, total: int, note: str = "") -> None:
        send(PROGRESS, (completed, total, note))

    return fit_group(
        job.wanted, data, job.scaling, report=report, progress=progress, device=job.device, scratch=job.scratch
    )


def _sender(parent: Parent) -> Callable[[int, object], None]:
    return lambda kind, content: parent.send(kind, pickle.dumps(content))


def _opened(places: tuple[SharedPlace, ...]) -> Features:
    return Features(*(torch.from_numpy(np.asarray(place.open())) for place in places))


def group_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """What one of several groups may report: means over it would stand beside those of another under one name."""
    return {key: value for key, value in metrics.items() if PER_TARGET in key or key in WHOLE}


def is_memory(error: BaseException) -> bool:
    """Whether memory ran out: on a GPU, or where the processor's allocator says so (it has no error of its own)."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
