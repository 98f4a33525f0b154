"""What the processor or GPU can do: decided here, so that the captioner's training and the frozen encoder agree."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import Literal

import torch

from emonet.configs import Precision
from emonet.errors import RequestError

Arithmetic = Literal["float32", "bf16"]


def resolve_device(device: str | None = None) -> torch.device:
    """`device` where one is given, else the first CUDA GPU, else the CPU.

    Raises:
        RequestError: if there is no such device; lists what there is.
    """
    there = _devices()
    if not device:
        return torch.device("cuda" if "cuda:0" in there else "cpu")
    names = {name for one in there for name in (one, one.split(":")[0])}
    wanted: torch.device | None = None
    with suppress(RuntimeError):  # not even the name of a device
        wanted = torch.device(device)
    if wanted is None or str(wanted) not in {*names, "cpu:0"}:
        raise RequestError(
            "there is no such device",
            expected=f"one of {', '.join(there)}",
            found=device,
            hint=f"--devices {there[-1]}",
        )
    return wanted


def _devices() -> tuple[str, ...]:
    """Names of what can compute here."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    metal = ("mps",) if torch.backends.mps.is_available() else ()
    return ("cpu", *metal, *(f"cuda:{gpu}" for gpu in range(gpus)))


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 products run in hardware there; emulated ones are slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return any(has for name, has in torch.cpu.get_capabilities().items() if "bf16" in name)


@cache
def has_matrix_units() -> bool:
    """Whether the processor multiplies tiles of bf16 in hardware (Intel AMX)."""
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
