"""Metrics of a training on two devices: each process sees its own batches, and they meet when figures are asked for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from torchmetrics import Metric

ROOT = Path(__file__).parent.parent


Batches = Sequence[tuple[Any, ...]]


def in_two_processes(
    folder: Path, tasks: Sequence[tuple[Metric, Batches, Batches]], timeout: float = 120
) -> list[list[Tensor]]:
    """What the metrics compute, by process.

    Args:
        folder: an empty one.
        tasks: metrics, each with the arguments of its updates in the one and in the other process.
        timeout: for both (seconds).
    """
    torch.save(list(tasks), folder / "tasks.pt")
    command = [sys.executable, "-m", "tests.two_processes", str(folder)]
    workers = [
        subprocess.Popen([*command, str(rank)], cwd=ROOT, stderr=subprocess.PIPE, text=True) for rank in range(2)
    ]
    try:
        told = [worker.communicate(timeout=timeout)[1] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(told)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def main(folder: Path, rank: int) -> None:
    """One of the two."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    figures = []
    for metric, *batches in torch.load(folder / "tasks.pt", weights_only=False):
        for batch in batches[rank]:
            metric.update(*batch)
        figures.append(metric.compute())
    torch.save(figures, folder / f"{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
