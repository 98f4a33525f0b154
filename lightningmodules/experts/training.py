"""Training of all experts of one form of input: in as few groups as memory asks for, or in coordinates."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Float32
from safetensors.torch import load_file, save_file
from torch import Tensor

from cache.principal import PrincipalStates, lift, require_unchanged
from cache.store import FeatureStore
from datamodules.expert_inputs import GIB, Inputs
from datamodules.experts import ExpertsDataModule
from emonet.clips import SPLITS, Split
from emonet.configs import HeadsConfig
from emonet.experts import InputSpec, Scaling
from emonet.runtime import ShowProgress, ignore, resolve_device
from emonet.targets import ClassLabels
from emonet.training import TrainingPlan, free_bytes, plan_training
from lightningmodules.experts.fitting import FittedBank, fit_bank
from lightningmodules.experts.input_cache import KeptInputs
from lightningmodules.experts.module import Report

Tensors = Mapping[str, Tensor]
"""One expert's tensors by their published names."""


@dataclass(frozen=True)
class TrainingRequest:
    """What is to be trained, and how.

    Args:
        store: holds states and scores.
        spec: the form of the input.
        targets: ids, each rated in the training and in the validation split.
        config: sizes, loss, optimiser, epochs, memory.
        seed: fixes starts, order and dropout.
        weights: of every clip of the store and each target in the loss; all 1 by default.
        predicted: splits whose clips are predicted, validation among them; of others none is read but for training.
        labels: classes of the store's clips, for the validation's UA; None tells none.
        inputs: the store's clips in the form of the input, where they are prepared; None prepares them.
    """

    store: FeatureStore
    spec: InputSpec
    targets: tuple[str, ...]
    config: HeadsConfig
    seed: int
    weights: Float32[np.ndarray, "stored targets"] | None = None
    predicted: tuple[Split, ...] = ("validation", "test")
    labels: ClassLabels | None = None
    inputs: Inputs | None = None


@dataclass(frozen=True)
class TrainingCallbacks:
    """Who is told what.

    Args:
        report: gets the metrics of each epoch.
        show: opens a progress callback.
        scratch: an empty folder for the experts of one group while the next is trained.
        say: told the plan, and what became of it.
        planned: told the plan itself, each time that there is a new one.
    """

    report: Report
    show: ShowProgress
    scratch: Path
    say: Callable[[str], None] = ignore
    planned: Callable[[TrainingPlan], None] = ignore


@dataclass(frozen=True)
class TrainedExperts:
    """Experts of one form of input, each with the weights of its best epoch.

    Args:
        spec: the form of the input, of raw states.
        hidden: outputs of the projection and of each hidden layer.
        targets: ids, in order.
        validation_mae: by target id: of its expert's best epoch, or of the mean of several.
        best_epoch: of each expert, by what it is called (`emonet.experts.member_ids`), counted from 0.
        predictions: scores of the clips of each predicted split, in the store's order.
        experts: gives each expert's tensors in turn, target by target, in the published form, as long as the scratch
            folder is there.
        energy: share of the states' variance that principal coordinates hold; None where experts saw the states.
        layer_mix: of each expert, by what it is called, how much it makes of each layer; empty where none were mixed.
        spread: deviation over the members of each target (unbiased), as `predictions`; empty without ensembles.
    """

    spec: InputSpec
    hidden: tuple[int, ...]
    targets: tuple[str, ...]
    validation_mae: Mapping[str, float]
    best_epoch: Mapping[str, int]
    predictions: Mapping[Split, Float32[np.ndarray, "clips experts"]]
    experts: Callable[[], Iterator[Tensors]]
    energy: float | None = None
    layer_mix: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    spread: Mapping[Split, Float32[np.ndarray, "clips experts"]] = field(default_factory=dict)


def train_experts(wanted: TrainingRequest, watch: TrainingCallbacks, kept: KeptInputs | None = None) -> TrainedExperts:
    """Train the experts of each target on the store's training clips; its validation clips stop each.

    An expert's result does not depend on which others are trained with it, so neither does it on the groups.

    Args:
        wanted: what is to be trained, and how.
        watch: who is told; what `watch.report` raises ends the training and is passed on.
        kept: inputs of earlier trainings; None prepares them for this one alone.

    Raises:
        RequestError: if the memory does not suffice for one expert.
        EmonetError: if a validation error is not finite, or the store changed underneath.
    """
    kept, wanted = kept or KeptInputs(), replace(wanted, config=_with_loss(wanted))
    in_coordinates = wanted.spec.form == "flatten" and wanted.config.features == "principal"
    trained = _in_coordinates(wanted, watch, kept) if in_coordinates else _on_states(wanted, watch, kept)
    require_unchanged(wanted.store)
    return trained


def _with_loss(wanted: TrainingRequest) -> HeadsConfig:
    """The configuration with the loss that `auto` stands for.

    That is mse where each training score is one of the two ends of its scale, as of class labels: under mae an expert
    of those does best with the one that most clips have, and says nothing.
    """
    config, store = wanted.config, wanted.store
    if config.loss != "auto":
        return config
    scores = store.scores(store.rows("train"))[:, [store.targets.index(target) for target in wanted.targets]]
    spec = store.targets.subset(wanted.targets)
    two = (scores == spec.low) | (scores == spec.high) | np.isnan(scores)
    return HeadsConfig.model_validate({**config.model_dump(), "loss": "mse" if two.all() else "mae"})


def _on_states(wanted: TrainingRequest, watch: TrainingCallbacks, kept: KeptInputs) -> TrainedExperts:
    plan = _plan(wanted, wanted.spec, watch)  # before anything is read: it may refuse
    inputs = wanted.inputs
    if inputs is None:
        inputs = kept.states(wanted.store, wanted.spec, memory_gib=wanted.config.states_gib, show=watch.show)
    scaling = inputs.scaling if wanted.config.standardise else None
    return _in_groups(wanted, watch, plan, inputs, scaling).all(wanted)


def _in_coordinates(wanted: TrainingRequest, watch: TrainingCallbacks, kept: KeptInputs) -> TrainedExperts:
    """Train on principal coordinates; experts are lifted back to states when they are asked for."""
    used = {"train", "validation", *wanted.predicted}
    splits = [split for split in SPLITS if split in used]
    states, inputs = kept.coordinates(wanted.store, wanted.config, splits, seed=wanted.seed, show=watch.show)
    share = states.basis.energy_share
    watch.say(f"{states.basis.rank} principal coordinates hold {100 * share:.2f} % of the energy")
    plan = _plan(wanted, inputs.spec, watch)
    finished = _in_groups(wanted, watch, plan, inputs, None)

    def lifted() -> Iterator[Tensors]:
        return _lifted(wanted, watch, states, list(finished.experts()))

    return finished.all(wanted, lifted, share)


def _lifted(
    wanted: TrainingRequest, watch: TrainingCallbacks, states: PrincipalStates, experts: list[Tensors]
) -> Iterator[Tensors]:
    """Experts on raw states, each given away before the next is put together."""
    weights = torch.cat([expert["proj.weight"] for expert in experts])
    biases = torch.cat([expert["proj.bias"] for expert in experts])
    rows = len(weights) // len(experts)
    waiting = (weights.new_empty(0, states.store.record.frames * states.store.record.width), biases.new_empty(0))
    at = iter(experts)
    with watch.show("lifting experts to states", "clips") as progress:
        gib = wanted.config.states_gib
        parts = lift(wanted.store, states, weights, biases, memory_gib=gib, together=rows, progress=progress)
        for _, *part in parts:
            weight, bias = (torch.cat(two) if len(two[0]) else two[1] for two in zip(waiting, part, strict=True))
            whole = len(bias) // rows * rows  # of experts; less than one where memory does not hold it
            for start in range(0, whole, rows):
                mine = slice(start, start + rows)
                yield {**next(at), "proj.weight": weight[mine], "proj.bias": bias[mine]}
            waiting = (weight[whole:].clone(), bias[whole:])
            del part, weight, bias  # they would stay while the next part is put together


def _in_groups(
    wanted: TrainingRequest, watch: TrainingCallbacks, plan: TrainingPlan, inputs: Inputs, scaling: Scaling | None
) -> _Finished:
    """Group after group, as planned; where memory runs out all the same, in smaller groups from there on."""
    config = wanted.config
    data = ExpertsDataModule(
        inputs,
        wanted.targets,
        batch_size=config.batch_size,
        seed=wanted.seed,
        weights=wanted.weights,
        labels=wanted.labels,
        ensemble=config.ensemble,
    )
    finished, sizes = _Finished(data.experts, watch.scratch, wanted.predicted), list(plan.groups)
    while sizes:
        gc.collect()  # Lightning's trainer and module hold each other, and so would the last group's weights stay
        group = slice(finished.count, finished.count + sizes[0])
        try:
            finished.take(_fit(wanted, watch, data.narrowed(group), scaling, group))
        except (RuntimeError, MemoryError) as error:
            if not _is_memory(error) or max(plan.groups) == 1:
                raise
            plan = plan.halved(len(data.experts) - finished.count)
            sizes = list(plan.groups)
            watch.planned(plan)
            watch.say(f"{wanted.spec.form}: memory ran out; going on with {plan}")
        else:
            del sizes[0]
    return finished


def _plan(wanted: TrainingRequest, spec: InputSpec, watch: TrainingCallbacks) -> TrainingPlan:
    config, device = wanted.config, resolve_device()
    clips = len(wanted.store.rows("train")) + len(wanted.store.rows("validation"))
    in_coordinates = spec is not wanted.spec
    plan = plan_training(
        spec,
        config.widths,
        config.ensemble * len(wanted.targets),
        batch_size=config.batch_size,
        clips=clips,
        states_bytes=clips * spec.bytes_per_clip if in_coordinates else round(config.states_gib * GIB),
        memory_bytes=free_bytes(device) if config.memory == "auto" else round(config.memory * GIB),
        precision=config.precision,
        on_gpu=device.type == "cuda",
        mixed=config.layers == "mix",
        ensemble=config.ensemble,
    )
    watch.planned(plan)
    watch.say(f"{wanted.spec.form}: {plan}")
    return plan


def _fit(
    wanted: TrainingRequest, watch: TrainingCallbacks, data: ExpertsDataModule, scaling: Scaling | None, group: slice
) -> FittedBank:
    whole = len(data.experts) == wanted.config.ensemble * len(wanted.targets)
    label = "" if whole else f" {group.start + 1} to {group.stop}"

    def report(metrics: Mapping[str, float], epoch: int) -> None:
        # Means over a group would stand beside those of another group under one name.
        watch.report(metrics if whole else {k: v for k, v in metrics.items() if "/" in k or k == "val_ua"}, epoch)

    with watch.show(f"training experts{label} ({wanted.spec.form})", "steps") as progress:
        return fit_bank(data, wanted.config, seed=wanted.seed, scaling=scaling, report=report, progress=progress)


def _is_memory(error: BaseException) -> bool:
    """Whether memory ran out: on a GPU, or where the processor's allocator says so (it has no error of its own)."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


@final
@dataclass
class _Finished:
    """The experts that are trained; those of several groups wait on disk."""

    names: tuple[str, ...]
    scratch: Path
    predicted: tuple[Split, ...]
    hidden: tuple[int, ...] = ()
    validation_mae: dict[str, float] = field(default_factory=dict)
    best_epoch: dict[str, int] = field(default_factory=dict)
    layer_mix: dict[str, tuple[float, ...]] = field(default_factory=dict)
    _predictions: list[dict[Split, np.ndarray]] = field(default_factory=list)
    _kept: list[Tensors | Path] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Experts that are trained."""
        return len(self.best_epoch)

    def take(self, fitted: FittedBank) -> None:
        """Note the figures of a group, and keep its experts: all of it, or nothing where memory runs out."""
        predictions = {split: fitted.predict(split) for split in self.predicted}
        alone = fitted.bank.targets == self.names
        kept: list[Tensors | Path] = []
        for position, name in enumerate(fitted.bank.targets):
            tensors = dict(fitted.bank.tensors(position))
            kept.append(tensors if alone else _saved(tensors, self.scratch / f"{name}.safetensors"))
        # Nothing below takes memory: a group that is trained again must not have been noted in part.
        self._predictions.append(predictions)
        self._kept += kept
        self.hidden = fitted.bank.hidden
        self.validation_mae |= fitted.validation_mae
        self.best_epoch |= fitted.best_epoch
        self.layer_mix |= fitted.layer_mix

    def experts(self) -> Iterator[Tensors]:
        """Each expert's tensors, in turn."""
        for kept in self._kept:
            yield load_file(kept) if isinstance(kept, Path) else kept

    def all(
        self,
        wanted: TrainingRequest,
        experts: Callable[[], Iterator[Tensors]] | None = None,
        energy: float | None = None,
    ) -> TrainedExperts:
        """Everything, of all groups."""
        by_split = {
            split: np.concatenate([some[split] for some in self._predictions], axis=1) for split in self.predicted
        }
        ensemble, errors = wanted.config.ensemble, self.validation_mae
        spread: dict[Split, np.ndarray] = {}
        if ensemble > 1:
            members = {split: each.reshape(len(each), -1, ensemble) for split, each in by_split.items()}
            by_split = {split: each.mean(2) for split, each in members.items()}
            spread = {split: each.std(2, ddof=1) for split, each in members.items()}
            errors = _errors(wanted, by_split["validation"])
        return TrainedExperts(
            wanted.spec,
            self.hidden,
            wanted.targets,
            errors,
            self.best_epoch,
            by_split,
            experts or self.experts,
            energy,
            self.layer_mix,
            spread,
        )


def _errors(wanted: TrainingRequest, predictions: Float32[np.ndarray, "clips targets"]) -> dict[str, float]:
    """Mean absolute errors of validation clips, by target."""
    store = wanted.store
    columns = [store.targets.index(target) for target in wanted.targets]
    errors = np.abs(predictions - store.scores(store.rows("validation"))[:, columns])
    return dict(zip(wanted.targets, np.nanmean(errors, 0).tolist(), strict=True))


def _saved(tensors: Tensors, path: Path) -> Path:
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    return path
