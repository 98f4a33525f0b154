"""Trainer on one device, in one process: whatever SLURM, torchrun, LSF or MPI have put into the environment."""

from __future__ import annotations

from typing import Any, final

import torch
from lightning.fabric.plugins.environments import ClusterEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only


def alone_on(device: torch.device) -> dict[str, Any]:
    """Arguments of a Trainer that trains in this process alone.

    Args:
        device: as `emonet.runtime.resolve_device` gives it; only there is decided which it is.
    """
    rank_zero_only.rank = 0  # Lightning takes it from the environment when it is imported, and others log nothing
    return {
        "accelerator": device.type,
        "devices": 1 if device.type == "cpu" else [device.index or 0],
        "num_nodes": 1,
        "strategy": "auto",
        "plugins": [_Alone()],
    }


@final
class _Alone(ClusterEnvironment):  # type: ignore[misc]
    """A cluster of one process; Lightning's own default reads LOCAL_RANK, NODE_RANK and others."""

    creates_processes_externally = False
    main_address = "127.0.0.1"
    main_port = 0  # nobody connects

    @staticmethod
    def detect() -> bool:
        return True

    def world_size(self) -> int:
        return 1

    def set_world_size(self, size: int) -> None:
        assert size == 1

    def global_rank(self) -> int:
        return 0

    def set_global_rank(self, rank: int) -> None:
        assert rank == 0

    def local_rank(self) -> int:
        return 0

    def node_rank(self) -> int:
        return 0
