"""Ranks of a training on several devices: which process of how many this is, as torchrun, Slurm, MPI or we say."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, replace
from typing import final

from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LSFEnvironment,
    MPIEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from emonet.errors import EmonetError, RequestError

_LAUNCHERS = {
    "torchrun": TorchElasticEnvironment,  # first: it is also used within Slurm
    "Slurm": SLURMEnvironment,
    "LSF": LSFEnvironment,
    "MPI": MPIEnvironment,
}


class ToldError(EmonetError):
    """What ended the training is told by another process; this one may keep silent."""


@dataclass(frozen=True)
class Place:
    """A process among those that train together.

    Args:
        rank: among all of them, from 0.
        size: how many they are.
        devices: processes on each machine.
        local: rank on this machine.
        node: which machine this is.
        address: of the first process.
        port: that it listens on; 0 lets it choose.
        launcher: what started the processes, empty where we start those of this machine ourselves.
    """

    rank: int = 0
    size: int = 1
    devices: int = 1
    local: int = 0
    node: int = 0
    address: str = "127.0.0.1"
    port: int = 0
    launcher: str = ""

    @property
    def in_company(self) -> bool:
        """Whether others have started processes beside this one, which wait for it."""
        return bool(self.launcher) or self.size > self.devices

    @property
    def leads(self) -> bool:
        """Whether this is the first process, which writes files and speaks."""
        return self.rank == 0

    def beside(self, local: int, port: int) -> Place:
        """The place of another process of this machine, which this one starts."""
        return replace(self, rank=self.rank + local, local=local, port=port, launcher="emonet")


def place_of(devices: int, nodes: int) -> Place:
    """Where this process stands among `devices` on each of `nodes` machines.

    Where one process is asked for, it is one, whatever the environment says.

    Raises:
        RequestError: if a launcher has started another number of processes, or several machines have none.
    """
    size = devices * nodes
    if size == 1:
        return Place()
    for name, kind in _LAUNCHERS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that srun is there and not used
            if not kind.detect():
                continue
        environment = kind()
        started = environment.world_size()
        if started == 1 and nodes == 1:
            continue  # one task, e.g. a batch script, whose processes we start
        if started != size:
            raise (ToldError if environment.global_rank() else RequestError)(
                "the number of processes is not the one that was asked for",
                expected=f"{size}: --captioner.devices {devices} on --captioner.num-nodes {nodes}",
                found=f"{started}, started by {name}",
                hint=f"start one process per device, or --captioner.devices {max(1, started // nodes)}",
            )
        rank, local = environment.global_rank(), environment.local_rank()
        node = rank // devices
        return Place(rank, size, devices, local, node, environment.main_address, environment.main_port, name)
    return Place(size=size, devices=devices) if nodes == 1 else _by_hand(devices, nodes)


def _by_hand(devices: int, nodes: int) -> Place:
    """Somebody starts the command once on each machine, and says which is which as Lightning wants to be told."""
    told = {name: os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")}
    port, node = told["MASTER_PORT"], told["NODE_RANK"]
    if not (told["MASTER_ADDR"] and port.isdecimal() and node.isdecimal() and int(node) < nodes):
        raise RequestError(
            f"a training on {nodes} machines needs somebody who starts it on each of them",
            expected="srun or torchrun, or MASTER_ADDR, MASTER_PORT and NODE_RANK (from 0) in the environment",
            found=", ".join(f"{name}={value}" for name, value in told.items() if value) or "nothing of these",
            hint=f"srun --nodes {nodes} --ntasks-per-node {devices} emonet pretrain ...",
        )
    rank = int(node) * devices
    return Place(rank, devices * nodes, devices, node=int(node), address=told["MASTER_ADDR"], port=int(port))


@final
class Placed(ClusterEnvironment):  # type: ignore[misc]
    """A place as Lightning wants to be told; its own default reads LOCAL_RANK, NODE_RANK and others.

    Args:
        place: of this process.
    """

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = place

    # Whoever starts them, it is not Lightning, which would run the script again that started us.
    creates_processes_externally = True

    @property
    def main_address(self) -> str:
        """Of the first process."""
        return self._place.address

    @property
    def main_port(self) -> int:
        """Of the first process; by then all are connected."""
        return self._place.port

    @staticmethod
    def detect() -> bool:
        """Nothing is looked for."""
        return True

    def world_size(self) -> int:
        """How many processes train."""
        return self._place.size

    def set_world_size(self, size: int) -> None:
        """Lightning's count of devices and machines, which is ours."""
        assert size == self._place.size

    def global_rank(self) -> int:
        """Of this process."""
        return self._place.rank

    def set_global_rank(self, rank: int) -> None:
        """Lightning's rank, which is ours."""
        assert rank == self._place.rank

    def local_rank(self) -> int:
        """Of this process on its machine."""
        return self._place.local

    def node_rank(self) -> int:
        """Of this process' machine."""
        return self._place.node
