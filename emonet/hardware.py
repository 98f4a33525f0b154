"""What the processor or GPU can do: decided here, so that the captioner's training and the frozen encoder agree."""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch

from emonet.configs import Precision
from emonet.errors import RequestError

Arithmetic = Literal["float32", "bf16"]


def resolve_device(device: str | None = None) -> torch.device:
    """`device` where one is given, else the first CUDA GPU, else the CPU."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 products run in hardware there; emulated ones are slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return any(has for name, has in torch.cpu.get_capabilities().items() if "bf16" in name)


@cache
def has_matrix_units() -> bool:
    """Whether the processor multiplies bf16 tiles in hardware (Intel AMX), three to ten times faster than its vectors."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def resolve_precision(precision: Precision, device: torch.device) -> Arithmetic:
    """The arithmetic that `auto` means on `device`; an explicit choice stays as it is.

    Raises:
        RequestError: if bf16 is asked for on a GPU that does not have it.
    """
    native = has_bf16(device)
    if precision == "bf16" and device.type == "cuda" and not native:
        raise RequestError(
            "this GPU does not compute in bf16",
            found=torch.cuda.get_device_name(device),
            hint="--precision float32",
        )
    if precision == "auto":
        return "bf16" if native else "float32"
    return precision
