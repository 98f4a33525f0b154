"""Copies to and from a GPU that run beside its arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Arriving:
    """Tensors on their way to the processor; `take` waits for them."""

    tensors: tuple[Tensor, ...]
    arrived: torch.cuda.Event

    def take(self) -> tuple[Tensor, ...]:
        """The tensors, once all their values are there."""
        self.arrived.synchronize()
        return self.tensors


class Transfers:
    """One stream up and one down, beside the stream that computes.

    Args:
        device: a GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._up: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._down: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def upload(self, tensor: Tensor) -> Tensor:
        """A copy on the GPU; whatever is computed with it afterwards waits for it.

        Args:
            tensor: in pinned memory, or the copy holds up this thread.
        """
        with torch.cuda.stream(self._up):
            copy = tensor.to(self._device, non_blocking=True)
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._up)
        copy.record_stream(computing)  # its memory is not given away before
        return copy

    def mark(self) -> torch.cuda.Event:
        """The moment when what was computed so far is done, by the GPU's clock."""
        moment = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        moment.record(torch.cuda.current_stream(self._device))
        return moment

    def download(self, *tensors: Tensor) -> Arriving:
        """Start copying to pinned memory, as soon as what was computed so far is done.

        Args:
            tensors: on the GPU.
        """
        self._down.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._down), torch.inference_mode():
            copies = tuple(tensor.to("cpu", non_blocking=True) for tensor in tensors)
            for tensor in tensors:
                tensor.record_stream(self._down)
            return Arriving(copies, self._down.record_event())
