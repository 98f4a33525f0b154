"""How near some work comes to what a device gives at best."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.rows import Row, seconds_of


@dataclass(frozen=True)
class Limits:
    """Rates of a device.

    Args:
        products: arithmetic -> FLOP/s of the best shape; empty where they could not be measured.
        memory: bytes per second, read and written, of a copy.
    """

    products: dict[str, float]
    memory: float

    def rows(self) -> list[Row]:
        """The rates themselves."""
        rates = [Row(f"matmul rate, {name}", rate / 1e12, "TFLOP/s") for name, rate in self.products.items()]
        return [*rates, Row("memory rate", self.memory / 1e9, "GB/s")]

    def against(self, name: str, seconds: float, *, flops: float, arithmetic: str, moved: float = 0) -> list[Row]:
        """How near some work comes to the matmul rate; and to the memory rate, where that is the narrower one.

        Args:
            name: of the work.
            seconds: that it takes.
            flops: its products; a multiply-add is two.
            arithmetic: of these.
            moved: bytes that it must at least read and write.
        """
        if arithmetic not in self.products:
            return [Row(name, 1000 * seconds, "ms")]
        product, memory = flops / self.products[arithmetic], moved / self.memory
        rows = [Row(name, 1000 * seconds, "ms", f"{arithmetic} matmul rate", product / seconds)]
        if memory > product:
            rows.append(Row(name, 1000 * seconds, "ms", "memory rate", memory / seconds))
        return rows


def timed(call: Callable[[], object], device: torch.device, repeats: int, warmup: int = 2) -> float:
    """Seconds of a call on a device, waited for: the median, after some calls that do not count."""

    def waited() -> None:
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(warmup):
        waited()
    return statistics.median(seconds_of(waited) for _ in range(repeats))
