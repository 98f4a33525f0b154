"""Hardware, or device and precision: decided here, so that the captioner and the frozen encoder agree."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from typing import Literal

import torch

from emonet.configs import Precision
from emonet.errors import RequestError

Arithmetic = Literal["float32", "bf16"]
# What ONEDNN_MAX_CPU_ISA may say that takes something away from a newer processor, from the least on; and what the
# abilities that we ask for need.
_ISAS = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI", "AVX512_CORE_BF16",
         "AVX512_CORE_FP16", "AVX512_CORE_AMX")  # fmt: skip
_NEEDS = {"avx512_vnni": "AVX512_CORE_VNNI", "avx512_bf16": "AVX512_CORE_BF16", "amx_bf16": "AVX512_CORE_AMX",
          "amx_int8": "AVX512_CORE_AMX"}  # fmt: skip


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
    return any("bf16" in name for name in cpu_abilities())


@cache
def has_matrix_units() -> bool:
    """Whether the processor multiplies tiles of bf16 in hardware (Intel AMX)."""
    return "amx_bf16" in cpu_abilities()


def cpu_abilities() -> frozenset[str]:
    """What the processor can do, named as in `torch.cpu.get_capabilities`, as far as oneDNN, which multiplies, may.

    PyTorch does not heed `ONEDNN_MAX_CPU_ISA`; oneDNN does, and what it may not use it emulates: slowly, and products
    of int8 wrongly (on AVX2 their sums are cut off at 16 bits).
    """
    there = {name for name, has in torch.cpu.get_capabilities().items() if has is True}
    return frozenset(name for name in there if name not in _NEEDS or onednn_may_use(_NEEDS[name]))


def onednn_may_use(isa: str) -> bool:
    """Whether the environment lets oneDNN use an instruction set, named as it does, such as `AVX512_CORE`."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    return limit not in _ISAS or _ISAS.index(isa) <= _ISAS.index(limit)


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
