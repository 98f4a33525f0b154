"""Checkpoints of experts: one safetensors file each, with the published key names, and `experts.json` beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from jaxtyping import Float, Float32, Float64, Int
from pydantic import Field, PositiveInt, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from emonet.checkpoints.intervals import Intervals
from emonet.checkpoints.population import Population
from emonet.configs import HIDDEN, InputForm
from emonet.errors import RequestError, raise_collected
from emonet.experts import (
    QUERY_KEY,
    ExpertBank,
    ExpertsPrecision,
    InputSpec,
    LayerPick,
    QuantizedBank,
    layer_keys,
    member_ids,
)
from emonet.runtime import replacing
from emonet.schema import Schema
from emonet.targets import TargetSpec

INFO = "experts.json"
Bank = ExpertBank | QuantizedBank
Reader = Callable[[int], Mapping[str, Tensor]]
"""Gives the tensors of the expert at a position, under their published names."""


class ExpertsInfo(Schema):
    """What the experts of a folder are, and what they hear."""

    format_version: Literal[2] = 2
    """Of this file (count)."""
    targets: list[dict[str, Any]]
    """What the experts score, in order: id, name, low, high and meaning of each score."""
    ensemble: PositiveInt = 1
    """Experts of each target, whose mean is its score (count)."""
    intervals: Intervals | None = None
    """How wide a score's interval is for the spread of its experts; none without ensembles."""
    population: Population | None = None
    """What the experts give their training clips; none of published experts, and of those of older versions."""
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
    """Values per state that the experts hear (count)."""
    encoder_layers: tuple[int, ...] | None = None
    """The encoder's layers that stand side by side in its states, counted from 1; none: the last one."""
    layers: tuple[int, ...] | None = None
    """Of these, those that the experts hear; none: all."""
    layer_mix: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """How much each expert (ID, ID.2 ...) makes of each layer that it hears (0 to 1), where it learned that:
    `heads.layers mix`."""
    hidden: tuple[PositiveInt, ...] = Field(min_length=1)
    """Outputs of the projection and of each hidden layer (count)."""
    encoder_digest: str
    """SHA-256 of the encoder's weights that the experts were trained on, or, if published, were imported with."""
    store_fingerprint: str | None = None
    """Of the feature store that the experts were trained on; none where they were published by others."""
    validation_mae: dict[str, float] = Field(default_factory=dict)
    """Validation MAE by target, of its expert's kept epoch or of the mean of several (in units of its score)."""
    best_epoch: dict[str, int] = Field(default_factory=dict)
    """The epoch whose weights each expert (ID, ID.2 ...) kept (counted from 0)."""
    classes: dict[str, str | None] = Field(default_factory=dict)
    """Label of each class of the training corpus -> the expert that stands for it, if one does; may be empty."""

    @model_validator(mode="before")
    @classmethod
    def _from_version_1(cls, fields: Any) -> Any:
        """Version 1 named a preset where there are widths now."""
        if not isinstance(fields, dict) or fields.get("format_version") != 1 or fields.get("preset") not in [*HIDDEN]:
            return fields
        kept = {name: value for name, value in fields.items() if name != "preset"}
        return kept | {"format_version": 2, "hidden": HIDDEN[fields["preset"]]}

    @property
    def spec(self) -> InputSpec:
        """How states become inputs."""
        given = self.encoder_layers or (0,)
        heard = self.layers or given
        picked = None if heard == given else LayerPick(len(given), tuple(map(given.index, heard)))
        return InputSpec(self.form, self.pool_over, self.frames, self.width, self.queries, len(heard), picked)

    @property
    def target_spec(self) -> TargetSpec:
        """The experts' targets."""
        return TargetSpec.from_json(self.targets)

    @property
    def experts(self) -> tuple[str, ...]:
        """What the experts are called, target by target, and their files."""
        return member_ids(self.target_spec.ids, self.ensemble)

    @property
    def heard(self) -> dict[str, str]:
        """What fixes the states that the experts hear, as it stands in each one's file."""
        layers = self.layers or self.encoder_layers
        return {
            "window_seconds": f"{self.window_seconds:g}",
            "layers": " ".join(map(str, layers)) if layers else "last",
            "encoder": self.encoder_digest,
        }


class LoadedBank(NamedTuple):
    """Experts of one form, ready to score.

    Args:
        bank: in evaluation mode.
        info: what they are.
    """

    bank: Bank
    info: ExpertsInfo

    def scores(
        self, states: Float[Tensor, "batch _ width"], speech_frames: Int[Tensor, " batch"], *, pooled: bool = False
    ) -> Float32[Tensor, "batch targets members"]:
        """Scores by each target's experts, whose mean is the target's; arguments as of `InputSpec.prepare`."""
        scores: Tensor = self.bank(self.bank.spec.prepare(states, speech_frames, pooled=pooled)).float()
        return scores.view(len(scores), len(self.info.targets), self.info.ensemble)

    def half_widths(self, scores: Float32[Tensor, "batch targets members"]) -> Float64[np.ndarray, "batch targets"]:
        """Of the intervals around means of such scores, in their units; NaN where there are none."""
        if self.info.intervals is None or self.info.ensemble == 1:
            return np.full(scores.shape[:2], np.nan)
        return self.info.intervals.half_widths(scores.std(2).numpy().astype(np.float64), self.info.target_spec.ids)


def expert_shapes(spec: InputSpec, hidden: Iterable[int]) -> dict[str, list[int]]:
    """The shape of each tensor of one expert, by its published name."""
    layers = list(pairwise((spec.features, *hidden, 1)))
    shapes: dict[str, list[int]] = {}
    for key, (inputs, outputs) in zip(layer_keys(len(layers) - 1), layers, strict=True):
        shapes |= {f"{key}.weight": [outputs, inputs], f"{key}.bias": [outputs]}
    return shapes | ({QUERY_KEY: [spec.queries, spec.width]} if spec.form == "attention" else {})


def save_bank(bank: ExpertBank, info: ExpertsInfo, folder: Path) -> None:
    """Write all experts to `folder`, whole or not at all; replaces what was there.

    Args:
        bank: the experts, folded (`ExpertBank.fold`).
        info: what they are.
        folder: gets `ID.safetensors` for each expert and `experts.json`.

    Raises:
        ValueError: if inputs are still scaled, or `info` describes other experts.
    """
    if bank.shift is not None:
        raise ValueError("fold the scaling of inputs into the experts before saving them")
    if (info.spec, info.hidden, info.experts) != (bank.spec, bank.hidden, bank.targets):
        raise ValueError(f"the description does not fit the experts: {info.spec}, {bank.spec}")
    with replacing(folder) as partial:
        write_experts(info, lambda position: dict(bank.tensors(position)), partial)


def write_experts(info: ExpertsInfo, read: Reader, folder: Path) -> None:
    """Write experts one after the other: only one of them need be in memory.

    Args:
        info: what they are.
        read: gives the tensors of one, by its position in `info.experts`.
        folder: exists; gets `ID.safetensors` for each expert (`ID.2.safetensors` ... for further members of an
            ensemble) and `experts.json`.
    """
    for position, expert in enumerate(info.experts):
        kept = {key: tensor.cpu().contiguous() for key, tensor in read(position).items()}
        told = {"target": info.target_spec.ids[position // info.ensemble], "form": info.form, **info.heard}
        save_file(kept, folder / f"{expert}.safetensors", told)
        del kept  # before the next one is mapped
    (folder / INFO).write_text(info.model_dump_json(indent=2) + "\n", "utf-8")


@overload
def load_bank(folder: Path) -> tuple[ExpertBank, ExpertsInfo]: ...
@overload
def load_bank(folder: Path, precision: ExpertsPrecision) -> LoadedBank: ...
def load_bank(folder: Path, precision: ExpertsPrecision = "float32") -> tuple[Bank, ExpertsInfo]:
    """Read the experts of a folder; the bank is in evaluation mode.

    `bank(info.spec.prepare(states, speech_frames))` then gives scores, `batch experts`, in the order of
    `bank.targets`, for states of the encoder with `info.encoder_digest`. Of an ensemble these are all members';
    `LoadedBank.scores` tells them apart.

    Args:
        folder: that `save_bank` wrote.
        precision: of the first layer of experts on flattened states; bf16 or int8 give a `QuantizedBank`, which needs
            a half or a quarter of the memory. Other forms are small and stay in float32.

    Raises:
        RequestError: if a file is missing or unreadable, or a tensor's shape is not what `experts.json` says; the
            message names the file and both shapes.
    """
    info = read_info(folder)
    return LoadedBank(fill_bank(info, lambda position: read_expert(folder, info, position), precision), info)


def fill_bank(info: ExpertsInfo, read: Reader, precision: ExpertsPrecision) -> Bank:
    """A bank of experts that are read one after the other.

    Args:
        info: what they are.
        read: gives the tensors of one, of the right shapes, by its position in `info.experts`.
        precision: of wide first layers.
    """
    targets = info.experts
    if precision != "float32" and info.form == "flatten":
        compact = QuantizedBank(info.spec, targets, info.hidden, precision)
        for position in range(len(targets)):
            compact.load_expert(position, read(position))
        return compact
    bank = ExpertBank(info.spec, targets, info.hidden, seed=None)
    for position in range(len(targets)):
        _copy(read(position), bank, position)
    return bank.eval()


def load_banks(folder: Path, precision: ExpertsPrecision = "float32") -> tuple[LoadedBank, ...]:
    """Read all experts of a voice model: one bank in `folder` itself, or one in each of its folders.

    Raises:
        RequestError: as `load_bank`, or if two banks have an expert for the same target.
    """
    return tuple(load_bank(place, precision) for place in check_banks(folder))


def check_banks(folder: Path) -> dict[Path, ExpertsInfo]:
    """The folders of all banks of a voice model, and what they hold; files are opened, weights are not read.

    Raises:
        RequestError: as `load_banks`.
    """
    found = {place: read_info(place) for place in bank_folders(folder)}
    for place, info in found.items():
        for expert in info.experts:
            with _opened(place, info, expert):
                pass
    check_alike(list(found.values()), folder)
    return found


def bank_folders(folder: Path) -> tuple[Path, ...]:
    """The folders of a voice model's banks: `folder` itself where it has a description, else those below it."""
    below = sorted(path.parent for path in folder.glob(f"*/{INFO}")) if not (folder / INFO).exists() else []
    return tuple(below) or (folder,)


def check_alike(infos: Sequence[ExpertsInfo], where: Path | None = None) -> None:
    """Check that the banks of a voice model hear the same states, and that no target is in two of them.

    Raises:
        RequestError: if they do not, or one is.
    """
    for what, heard in {
        "windows": [f"{info.window_seconds:g} s" for info in infos],
        "layers": [" ".join(map(str, info.encoder_layers or ("last",))) for info in infos],
    }.items():
        if len(set(heard)) > 1:
            raise RequestError(
                f"these experts were trained on states of different {what}",
                where=where,
                expected="the same for all experts of a model",
                found=", ".join(dict.fromkeys(heard)),
                hint="keep the experts of one store together",
            )
    ids = [target for info in infos for target in info.target_spec.ids]
    twice = sorted({target for target in ids if ids.count(target) > 1})
    raise_collected("some targets have several experts", twice, where=where, hint="keep one bank for each target")


def read_expert(folder: Path, info: ExpertsInfo, position: int) -> dict[str, Tensor]:
    """The tensors of one expert under their published names, mapped from its file.

    Args:
        folder: of the bank.
        info: what it holds.
        position: of the expert in `info.experts`.

    Raises:
        RequestError: if the file is missing or unreadable, or its tensors are not those that `info` describes.
    """
    with _opened(folder, info, info.experts[position]) as file:
        return {key: file.get_tensor(key) for key in expert_shapes(info.spec, info.hidden)}


@contextmanager
def _opened(folder: Path, info: ExpertsInfo, expert: str) -> Iterator[Any]:
    path = folder / f"{expert}.safetensors"
    try:
        with safe_open(path, "pt") as file:
            _check(file, expert_shapes(info.spec, info.hidden), path)
            if info.ensemble > 1:
                _check_heard(file.metadata() or {}, info, path)
            yield file
    except (OSError, SafetensorError) as error:
        several = f"; {INFO} says that each target has {info.ensemble}" if info.ensemble > 1 else ""
        found = f"{str(error) or type(error).__name__}{several}"
        raise RequestError("an expert cannot be read", where=path, found=found) from error


def _check_heard(told: Mapping[str, str], info: ExpertsInfo, path: Path) -> None:
    """Check that a member of an ensemble hears what the others do, which shapes need not tell."""
    other = {name: (value, told.get(name, "unknown")) for name, value in info.heard.items() if told.get(name) != value}
    if other:
        kinds = " and ".join({"window_seconds": "windows", "encoder": "encoders"}.get(name, name) for name in other)
        raise RequestError(
            f"mixed {kinds} in an ensemble",
            where=path,
            expected=", ".join(f"{name} {mine}" for name, (mine, _) in other.items()) + f", as {INFO} says",
            found=", ".join(f"{name} {theirs}" for name, (_, theirs) in other.items()),
            hint="keep the files of one training together",
        )


def _copy(tensors: Mapping[str, Tensor], bank: ExpertBank, position: int) -> None:
    for key, tensor in bank.tensors(position):
        tensor.copy_(tensors[key])


def _check(file: Any, shapes: Mapping[str, list[int]], path: Path) -> None:
    if set(file.keys()) != set(shapes):
        raise RequestError(
            "an expert's file has other tensors than its description says",
            where=path,
            expected=", ".join(sorted(shapes)),
            found=", ".join(sorted(file.keys())),
        )
    for key, shape in shapes.items():
        found = list(file.get_slice(key).get_shape())
        if found != shape:
            raise RequestError(f"the shape of {key} is not what {INFO} says", where=path, expected=shape, found=found)


def read_info(folder: Path) -> ExpertsInfo:
    """What the experts of a folder are.

    Raises:
        RequestError: if there is no description, or it cannot be read.
    """
    path = folder / INFO
    try:
        return ExpertsInfo.model_validate_json(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RequestError(
            "there are no experts here",
            where=folder,
            expected=INFO,
            found="no such folder" if not folder.is_dir() else None,
            hint="emonet heads trains them, and emonet experts import takes published ones",
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, ValidationError) as error:
        raise RequestError("the experts' description cannot be read", where=path, found=error) from error
