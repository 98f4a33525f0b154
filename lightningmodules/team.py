"""Processes that train one model together, DDP or FSDP: they meet, agree on what they do, and end together."""

from __future__ import annotations

import hashlib
import importlib
import os
import pickle
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, final

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy
from torch import distributed, nn
from torch._C._distributed_c10d import PrefixStore, TCPStore

from emonet.configs import Strategy
from emonet.errors import EmonetError, RequestError
from emonet.runtime import resolve_device
from lightningmodules.alone import alone_on
from lightningmodules.members import Members, Work
from lightningmodules.ranks import Place, Placed, ToldError

T = TypeVar("T")
TRAIN, END = "train", "end"  # orders of the first process
MEET = 600.0  # seconds that processes wait for each other at the beginning
_SLICE = 1.0  # seconds between looks at whether a process of ours has failed meanwhile
_SHORTEST, _LONGEST = 5e-5, 0.02  # seconds between looks at whether the others have answered
_WORK = timedelta(minutes=30)  # what takes longer between two steps has failed
_TALK = timedelta(days=2)  # one process may write captions or register a model while the others wait
_GONE = ("gloo", "nccl", "connection", "socket", "broken pipe", "peer")  # words of torch's about lost processes


@final
class Team:
    """The processes of a training as one of them sees them; most are alone.

    Args:
        place: this process' own.
    """

    def __init__(self, place: Place = Place()) -> None:  # noqa: B008 immutable
        self._place = place
        # Apart from the training's own group: words between processors do not wait for what GPUs are still at.
        self._talk: Any = None if place.size == 1 else distributed.new_group(backend="gloo", timeout=_TALK)

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self._place.leads

    @property
    def part(self) -> tuple[int, int]:
        """Which process of how many this is."""
        return self._place.rank, self._place.size

    def gather(self, value: T) -> list[T]:
        """Everybody's value, by rank; each process waits for the others. It must be picklable."""
        if self._talk is None:
            return [value]
        mine = torch.frombuffer(bytearray(pickle.dumps(value)), dtype=torch.uint8)
        sizes = torch.zeros(self._place.size, dtype=torch.int64)
        sizes[self._place.rank] = len(mine)
        self._wait(distributed.all_reduce(sizes, group=self._talk, async_op=True))
        padded = torch.zeros(int(sizes.max()), dtype=torch.uint8)
        padded[: len(mine)] = mine
        found = [torch.empty_like(padded) for _ in sizes]
        self._wait(distributed.all_gather(found, padded, group=self._talk, async_op=True))
        return [
            pickle.loads(one[:size].numpy().tobytes())  # noqa: S301 - from processes of this training
            for one, size in zip(found, sizes.tolist(), strict=True)
        ]

    def share(self, value: T) -> T:
        """The first process' value, for all of them."""
        return self.gather(value)[0]

    def order(self, what: str = "") -> str:
        """What the first process wants all to do next; it names it, the others ask."""
        return self.share(what)

    def highest(self, values: Sequence[int]) -> list[int]:
        """The largest of everybody's numbers, place by place: what is cheap enough for each step."""
        if self._talk is None:
            return list(values)
        numbers = torch.tensor(values)
        self._wait(distributed.all_reduce(numbers, distributed.ReduceOp.MAX, group=self._talk, async_op=True))
        return [int(number) for number in numbers]

    @staticmethod
    def _wait(work: Any) -> None:
        """Wait in Python, where signals are heeded."""
        pause = _SHORTEST
        while not work.is_completed():
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST)
        work.wait()

    def agree(self, facts: Mapping[str, str]) -> None:
        """See that all processes are about to do the same.

        Args:
            facts: what has to be the same -> a short text that tells it apart.

        Raises:
            RequestError: if they differ; names what differs and where.
        """
        everybody = self.gather(dict(facts))
        for name, mine in everybody[0].items():
            if others := [rank for rank, theirs in enumerate(everybody) if theirs.get(name) != mine]:
                raise (RequestError if self.leads else ToldError)(
                    f"the processes of this training are not about to do the same: they differ in {name}",
                    expected=f"{mine}, as in process 0",
                    found=f"{everybody[others[0]].get(name)} in process {', '.join(map(str, others))}",
                    hint="the same version of emonet, configuration and data on each machine",
                )

    def shards_weights(self, strategy: Strategy) -> bool:
        """Whether each process has a part of the weights only."""
        return strategy == "fsdp" and self._place.size > 1

    def require(self, strategy: Strategy) -> None:
        """Check that this process can take its part.

        Raises:
            RequestError: if fsdp is asked for where there is no GPU.
        """
        device = resolve_device()
        if self.shards_weights(strategy) and device.type != "cuda":
            raise (RequestError if self.leads else ToldError)(
                "fsdp needs GPUs", found=f"a device of the kind {device.type}", hint="--captioner.strategy ddp"
            )

    def trainer(self, strategy: Strategy, units: Collection[type[nn.Module]] = ()) -> dict[str, Any]:
        """Arguments of this process' Trainer.

        Args:
            strategy: what is shared.
            units: of weights that are together at a time, under fsdp: the layers of the model.

        Raises:
            RequestError: if fsdp is asked for where there is no GPU.
        """
        self.require(strategy)
        device = resolve_device()
        if self._place.size == 1:
            return alone_on(device)
        rank_zero_only.rank = self._place.rank
        devices = self._place.devices
        return {
            "accelerator": device.type,
            "devices": list(range(devices)) if device.type == "cuda" else devices,
            "num_nodes": self._place.size // devices,
            # The only buffers are tables: nothing has to be sent before each batch.
            "strategy": FSDPStrategy(auto_wrap_policy=set(units), use_orig_params=True)
            if self.shards_weights(strategy)
            else DDPStrategy(forward_sync_buffers=False, gradient_as_bucket_view=True),
            "plugins": [Placed(self._place)],
        }


@contextmanager
def joined(place: Place, work: Work | None = None) -> Iterator[Team]:
    """The team of this process, once everybody has come; the others of this machine are started where nobody else did.

    Args:
        place: of this process.
        work: what those do that are started here.

    Raises:
        RequestError: if this machine has fewer devices.
        EmonetError: if somebody does not come, or has ended before the block was left.
    """
    if place.size == 1:
        yield Team()
        return
    device = resolve_device()
    _enough(device, place.devices)
    if device.type == "cuda":
        torch.cuda.set_device(place.local)
    before = torch.get_num_threads()
    with ExitStack() as stack:
        store = _meeting_point(place)
        members = None
        if work is not None and not place.launcher and place.devices > 1:
            threads = max(1, before // place.devices)
            torch.set_num_threads(threads)
            stack.callback(torch.set_num_threads, before)
            members = stack.enter_context(Members(place, store.port, work, threads, _abandon))
        with _explained(members, leads=place.leads):
            _meet(place, store, members)
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            group = PrefixStore("group", store)
            distributed.init_process_group(backend, store=group, rank=place.rank, world_size=place.size, timeout=_WORK)
            stack.callback(distributed.destroy_process_group)
            team = Team(place)
            yield team
            if team.leads:
                with suppress(RuntimeError):  # the work is done; nobody has to be there to hear it
                    team.order(END)


@cache
def sources_digest() -> str:
    """A digest of the code that trains, 16 characters, the same wherever it is installed."""
    found = hashlib.sha256()
    for name in ("datamodules", "emonet", "lightningmodules"):
        for folder in map(Path, importlib.import_module(name).__path__):
            for path in sorted(folder.rglob("*.py")):
                found.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return found.hexdigest()[:16]


def _enough(device: torch.device, devices: int) -> None:
    there = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device.type)
    if there is not None and there < devices:
        raise RequestError(
            "this machine has fewer devices",
            expected=f"{devices}, for --captioner.devices {devices}",
            found=f"{there} of the kind {device.type}",
            hint=f"--captioner.devices {there}",
        )


def _meeting_point(place: Place) -> Any:
    """What all connect to; torchrun has one already, else it is with the first process."""
    theirs = place.launcher == "torchrun" and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if theirs else "0"
    try:
        store = TCPStore(
            place.address,
            place.port,
            is_master=place.leads and not theirs,
            timeout=timedelta(seconds=MEET),
            wait_for_workers=False,
        )
    except (RuntimeError, ValueError) as error:
        raise EmonetError(
            "the address is taken" if place.leads else "the first process of this training does not answer",
            where=f"{place.address}:{place.port}",
            found=str(error).splitlines()[0],
            hint="MASTER_PORT says where it listens",
        ) from error
    return store if attempt == "0" else PrefixStore(attempt, store)


def _meet(place: Place, store: Any, members: Members | None) -> None:
    """Wait until everybody is there: what is missing is told by rank."""
    store.set(f"here/{place.rank}", b"")
    left = MEET
    for rank in range(place.size):
        while not store.check([f"here/{rank}"]):
            if members is not None and (failed := members.failure(_SLICE)) is not None:
                raise failed
            if members is None:
                _pause(store, f"here/{rank}")
            left -= _SLICE
            if left <= 0:
                raise EmonetError(
                    f"process {rank} of {place.size} has not come",
                    where=f"{place.address}:{store.port}",
                    expected=f"all processes within {MEET:g} s",
                    hint="its own output may tell why",
                )


def _pause(store: Any, key: str) -> None:
    try:
        store.wait([key], timedelta(seconds=_SLICE))
    except distributed.DistStoreError:
        return


@contextmanager
def _explained(members: Members | None, *, leads: bool) -> Iterator[None]:
    """Turn what torch says when another process is gone into one message."""
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, distributed.DistError) or any(word in str(error).lower() for word in _GONE)
        if members is not None and (failed := members.failure(5.0 if lost else 0.0)) is not None:
            raise failed from error
        if not lost:
            raise
        raise (EmonetError if leads else ToldError)(
            "another process of this training has ended",
            found=str(error).splitlines()[0],
            hint="what it said last tells why; the same command goes on from the last checkpoint",
        ) from error


def _abandon() -> None:
    """Wake this process up where it waits in NCCL for one that is gone."""
    if torch.cuda.is_available() and distributed.is_initialized():
        distributed.distributed_c10d._abort_process_group()
