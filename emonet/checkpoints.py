"""Experts on disk: one safetensors file each, with the published key names, and `experts.json` beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from emonet.configs import InputForm
from emonet.durable import replacing
from emonet.errors import RequestError
from emonet.experts import HeadBank, Preset
from emonet.inputs import InputSpec
from emonet.schema import Schema
from emonet.targets import TargetSpec

INFO = "experts.json"


class ExpertsInfo(Schema):
    """What the experts of a folder are, and what they hear."""

    format_version: Literal[1] = 1
    """Of this file (count)."""
    targets: list[dict[str, Any]]
    """The experts in order: id, name, low, high and meaning of each score."""
    form: InputForm
    """What an expert sees of the states."""
    pool_over: Literal["all", "speech"]
    """Which states are pooled over."""
    queries: int = Field(ge=0)
    """Learned views per expert of the attention form (count)."""
    window_seconds: float = Field(gt=0)
    """Audio that the encoder hears (seconds)."""
    frames: int = Field(gt=0)
    """States per clip (count)."""
    width: int = Field(gt=0)
    """Values per state (count)."""
    preset: Preset
    """Width of the experts."""
    encoder_digest: str
    """SHA-256 of the encoder's weights that the experts were trained on."""
    store_fingerprint: str
    """Of the feature store that the experts were trained on."""
    validation_mae: dict[str, float] = Field(default_factory=dict)
    """Validation MAE of each expert's kept epoch (in units of its score)."""
    best_epoch: dict[str, int] = Field(default_factory=dict)
    """The epoch whose weights each expert kept (counted from 0)."""

    @property
    def spec(self) -> InputSpec:
        """How states become inputs."""
        return InputSpec(self.form, self.pool_over, self.frames, self.width, self.queries)

    @property
    def target_spec(self) -> TargetSpec:
        """The experts' targets."""
        return TargetSpec.from_json(self.targets)


def save_bank(bank: HeadBank, info: ExpertsInfo, folder: Path) -> None:
    """Write all experts to `folder`, whole or not at all; replaces what was there.

    Args:
        bank: the experts, folded (`HeadBank.fold`).
        info: what they are.
        folder: gets `ID.safetensors` for each expert and `experts.json`.

    Raises:
        ValueError: if inputs are still scaled, or `info` describes other experts.
    """
    if bank.shift is not None:
        raise ValueError("fold the scaling of inputs into the experts before saving them")
    if (info.spec, info.preset, info.target_spec.ids) != (bank.spec, bank.preset, bank.targets):
        raise ValueError(f"the description does not fit the experts: {info.spec}, {bank.spec}")
    with replacing(folder) as partial:
        for position, target in enumerate(bank.targets):
            tensors = {key: tensor.cpu().contiguous() for key, tensor in bank.tensors(position)}
            save_file(tensors, partial / f"{target}.safetensors", {"target": target, "form": bank.spec.form})
        (partial / INFO).write_text(info.model_dump_json(indent=2) + "\n", "utf-8")


def load_bank(folder: Path) -> tuple[HeadBank, ExpertsInfo]:
    """Read the experts of a folder; the bank is in evaluation mode.

    `bank(info.spec.prepare(states, speech_frames))` then gives scores, `batch experts`, in the order of
    `bank.targets`, for states of the encoder with `info.encoder_digest`.

    Raises:
        RequestError: if a file is missing or unreadable, or a tensor's shape is not what `experts.json` says; the
            message names the file and both shapes.
    """
    info = _read_info(folder / INFO)
    bank = HeadBank(info.spec, info.target_spec.ids, info.preset, seed=None)
    for position, target in enumerate(bank.targets):
        path = folder / f"{target}.safetensors"
        try:
            with safe_open(path, "pt") as file:
                _fill(bank, position, file, path)
        except (OSError, SafetensorError) as error:
            raise RequestError(
                "an expert cannot be read", where=path, found=str(error) or type(error).__name__
            ) from error
    return bank.eval(), info


def _fill(bank: HeadBank, position: int, file: Any, path: Path) -> None:
    tensors = dict(bank.tensors(position))
    if set(file.keys()) != set(tensors):
        raise RequestError(
            "an expert's file has other tensors than its description says",
            where=path,
            expected=", ".join(sorted(tensors)),
            found=", ".join(sorted(file.keys())),
        )
    for key, tensor in tensors.items():
        shape = list(file.get_slice(key).get_shape())
        if shape != list(tensor.shape):
            raise RequestError(
                f"the shape of {key} is not what {INFO} says", where=path, expected=list(tensor.shape), found=shape
            )
        tensor.copy_(file.get_tensor(key))


def _read_info(path: Path) -> ExpertsInfo:
    try:
        return ExpertsInfo.model_validate_json(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise RequestError(
            "there are no experts here", where=path.parent, expected=INFO, hint="emonet heads"
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, ValidationError) as error:
        raise RequestError("the experts' description cannot be read", where=path, found=error) from error
