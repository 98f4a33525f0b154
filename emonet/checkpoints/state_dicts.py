"""State dicts that others saved: mapped, checked for what an expert has, and nothing in them is run."""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emonet.experts import layer_keys

# What unpickling raises where bytes are not those that were written: an operation without its operands, say.
_DAMAGE = (
    RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError, struct.error,
)  # fmt: skip
_COMPILED = "_orig_mod."  # before keys of modules that went through torch.compile
DEPTH = 4  # hidden layers of a published expert, the projection included


class UnusableError(Exception):
    """A file that makes no expert.

    Args:
        problems: why not.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Map a bare state dict of float32 tensors into memory; keys lose the prefix that torch.compile leaves.

    Raises:
        UnusableError: if it cannot be read, or holds anything else.
    """
    state = _unpickle(path)
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise UnusableError("it holds other things than tensors by name: no bare state dict")
    tensors = {str(key).removeprefix(_COMPILED): tensor for key, tensor in state.items()}
    if len(tensors) < len(state):
        raise UnusableError(f"a tensor is there with and without the prefix {_COMPILED}")
    other = {key: tensor.dtype for key, tensor in tensors.items() if tensor.dtype != torch.float32}
    if other:
        raise UnusableError(*(f"{key} is {dtype}, expected torch.float32" for key, dtype in other.items()))
    return tensors


def hidden_widths(shapes: Mapping[str, list[int]]) -> tuple[int, ...]:
    """Outputs of every layer but the last, of an expert with tensors of these shapes; any number of layers will do.

    Raises:
        UnusableError: if tensors are missing, are none of an expert's, or do not fit together.
    """
    keys = layer_keys(_depth(shapes))
    _check_names(shapes, keys)
    weights = [f"{key}.weight" for key in keys]
    odd = [name for name in weights if len(shapes[name]) != 2 or 0 in shapes[name]]
    if odd:
        raise UnusableError(*(f"{name} is {shapes[name]}, expected OUTPUTS x INPUTS" for name in odd))
    outputs = [shapes[name][0] for name in weights[:-1]] + [1]
    inputs = [shapes[weights[0]][1], *outputs[:-1]]
    expected = {f"{key}.weight": [rows, columns] for key, rows, columns in zip(keys, outputs, inputs, strict=True)}
    expected |= {f"{key}.bias": [rows] for key, rows in zip(keys, outputs, strict=True)}
    wrong = [name for name in sorted(expected) if shapes[name] != expected[name]]
    if wrong:
        raise UnusableError(*(f"{name} is {shapes[name]}, expected {expected[name]}" for name in wrong))
    return tuple(outputs[:-1])


def not_finite(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """The names of tensors that hold NaN or infinite values."""
    for key, tensor in tensors.items():
        if not torch.stack(torch.aminmax(tensor)).isfinite().all():  # no copy; NaN wins in both
            yield key


def _unpickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise UnusableError("it holds other things than weights, perhaps code, and was not opened") from error
    except _DAMAGE as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UnusableError(f"it cannot be read, and may have been cut short ({reason})") from error


def _depth(shapes: Mapping[str, list[int]]) -> int:
    positions = [int(found[1]) for name in shapes if (found := re.fullmatch(r"mlp\.(\d+)\.(?:weight|bias)", name))]
    return min(1 + (max(positions) - 2) // 3, len(shapes)) if positions else DEPTH


def _check_names(shapes: Mapping[str, list[int]], keys: tuple[str, ...]) -> None:
    expected = {f"{key}.{kind}" for key in keys for kind in ("weight", "bias")}
    missing, unknown = sorted(expected - set(shapes)), sorted(set(shapes) - expected)
    if missing or unknown:
        raise UnusableError(
            *(f"{name} is missing" for name in missing), *(f"{name} is no tensor of an expert" for name in unknown)
        )
