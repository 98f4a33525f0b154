"""Parts of the experts, trained on several nodes, left in a folder that all see, and joined by the last one."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file

from emonet.clips import Split
from emonet.errors import EmonetError, RequestError
from emonet.experts import member_ids
from emonet.runtime import durable
from lightningmodules.experts.finished import saved
from lightningmodules.experts.training import with_loss
from lightningmodules.experts.wanted import Tensors, TrainedExperts, TrainingRequest

_FIGURES, _PREDICTIONS = "part.json", "predictions.npz"


def part_of(wanted: TrainingRequest, count: int, index: int) -> TrainingRequest:
    """What one of several nodes trains: its share of the targets, each expert as in a training of all.

    Args:
        wanted: the training of all.
        count: nodes.
        index: of this one, from 0.

    Raises:
        RequestError: if there are more parts than targets.
    """
    targets = len(wanted.targets)
    if count > targets:
        raise RequestError(
            "there are more parts than experts",
            expected=f"--heads.num-shards 1 to {targets}",
            found=f"--heads.num-shards {count}",
        )
    mine = _share(targets, count, index)
    weights = None if wanted.weights is None else wanted.weights[:, mine]
    # What the loss `auto` stands for depends on all targets.
    return replace(wanted, targets=wanted.targets[mine], weights=weights, config=with_loss(wanted))


def _share(targets: int, count: int, index: int) -> slice:
    return slice(index * targets // count, (index + 1) * targets // count)


def write_part(trained: TrainedExperts, folder: Path) -> None:
    """Leave a part for whoever joins; whole or not at all.

    Args:
        trained: its experts.
        folder: replaced if it exists.
    """
    with durable.replacing(folder) as partial:
        for name, tensors in zip(trained.best_epoch, trained.experts(), strict=True):
            saved(tensors, partial / f"{name}.safetensors")
        arrays = {f"predictions.{split}": values for split, values in trained.predictions.items()}
        arrays |= {f"spread.{split}": values for split, values in trained.spread.items()}
        np.savez(partial / _PREDICTIONS, **arrays)  # type: ignore[arg-type]
        figures = {
            "hidden": trained.hidden,
            "validation_mae": dict(trained.validation_mae),
            "best_epoch": dict(trained.best_epoch),
            "layer_mix": dict(trained.layer_mix),
            "energy": trained.energy,
        }
        (partial / _FIGURES).write_text(json.dumps(figures), "utf-8")


def join_parts(wanted: TrainingRequest, folders: list[Path]) -> TrainedExperts:
    """The experts of all parts as one training of all gives them.

    Args:
        wanted: the training of all.
        folders: of the parts, in their order; to be there until the experts have been taken.

    Raises:
        EmonetError: if a folder has the experts of another training.
    """
    figures = [json.loads((folder / _FIGURES).read_text("utf-8")) for folder in folders]
    for index, (folder, part) in enumerate(zip(folders, figures, strict=True)):
        mine = wanted.targets[_share(len(wanted.targets), len(folders), index)]
        _require_experts(folder, part, member_ids(mine, wanted.config.ensemble))

    def experts() -> Iterator[Tensors]:
        for folder, part in zip(folders, figures, strict=True):
            for name in part["best_epoch"]:
                yield load_file(folder / f"{name}.safetensors")

    def every(field: str) -> dict[str, Any]:
        return {name: value for part in figures for name, value in part[field].items()}

    return TrainedExperts(
        wanted.spec,
        tuple(figures[0]["hidden"]),
        wanted.targets,
        every("validation_mae"),
        every("best_epoch"),
        _joined(folders, "predictions"),
        experts,
        figures[0]["energy"],
        {name: tuple(mix) for name, mix in every("layer_mix").items()},
        _joined(folders, "spread"),
    )


def _require_experts(folder: Path, part: dict[str, Any], experts: tuple[str, ...]) -> None:
    if tuple(part["best_epoch"]) != experts:
        raise EmonetError(
            "a part of the experts is of another training",
            where=folder,
            expected=", ".join(experts),
            found=", ".join(part["best_epoch"]),
            hint=f"rm -r {shlex.quote(str(folder.parent))}*, and train this part again",
        )


def _joined(folders: list[Path], kind: str) -> dict[Split, np.ndarray]:
    parts = []
    for folder in folders:
        with np.load(folder / _PREDICTIONS) as arrays:
            parts.append({name.split(".")[1]: arrays[name] for name in arrays if name.startswith(f"{kind}.")})
    return {split: np.concatenate([part[split] for part in parts], 1) for split in parts[0]}  # type: ignore[misc]
