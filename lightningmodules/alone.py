"""Trainer on one device, in one process: whatever SLURM, torchrun, LSF or MPI have put into the environment."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only

from lightningmodules.ranks import Place, Placed


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
        "plugins": [Placed(Place())],
    }
