"""Training of all experts of one form of input: in as few groups as memory asks for, or in coordinates."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cache.principal import PrincipalStates, lift, require_unchanged
from datamodules.expert_inputs import GIB, Inputs
from datamodules.experts import ExpertsDataModule
from emonet.clips import SPLITS
from emonet.configs import HeadsConfig
from emonet.experts import InputSpec, Scaling
from emonet.runtime import resolve_device
from emonet.training import TrainingPlan, free_bytes, plan_training
from lightningmodules.experts.crew import train_on
from lightningmodules.experts.finished import FinishedGroups, TrainedGroup, fit_group
from lightningmodules.experts.input_cache import KeptInputs
from lightningmodules.experts.wanted import Tensors, TrainedExperts, TrainingCallbacks, TrainingRequest
from lightningmodules.experts.worker import group_metrics, is_memory


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
    kept, wanted = kept or KeptInputs(), replace(wanted, config=with_loss(wanted))
    in_coordinates = wanted.spec.form == "flatten" and wanted.config.features == "principal"
    trained = _in_coordinates(wanted, watch, kept) if in_coordinates else _on_states(wanted, watch, kept)
    require_unchanged(wanted.store)
    return trained


def with_loss(wanted: TrainingRequest) -> HeadsConfig:
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
) -> FinishedGroups:
    """Group after group, as planned, or several at a time on as many devices."""
    finished, devices = FinishedGroups(wanted.predicted), _devices(wanted.config)
    if len(devices) < 2 or len(plan.groups) < 2:
        _one_after_the_other(finished, wanted, watch, plan, inputs, scaling)
    else:
        for group in train_on(devices, wanted, watch, plan, inputs, scaling):
            finished.take(group)
    return finished


def _one_after_the_other(
    finished: FinishedGroups,
    wanted: TrainingRequest,
    watch: TrainingCallbacks,
    plan: TrainingPlan,
    inputs: Inputs,
    scaling: Scaling | None,
) -> None:
    """Groups in this process; where memory runs out all the same, in smaller ones from there on."""
    data, sizes = wanted.data(inputs), list(plan.groups)
    while sizes:
        gc.collect()  # Lightning's trainer and module hold each other, and so would the last group's weights stay
        group = slice(finished.count, finished.count + sizes[0])
        scratch = None if sizes[0] == len(data.experts) else watch.scratch
        try:
            finished.take(_fit(wanted, watch, data.narrowed(group), scaling, group, scratch))
        except (RuntimeError, MemoryError) as error:
            if not is_memory(error) or max(plan.groups) == 1:
                raise
            plan = plan.halved(len(data.experts) - finished.count)
            sizes = list(plan.groups)
            watch.planned(plan)
            watch.say(f"{wanted.spec.form}: memory ran out; going on with {plan}")
        else:
            del sizes[0]


def _plan(wanted: TrainingRequest, spec: InputSpec, watch: TrainingCallbacks) -> TrainingPlan:
    config = wanted.config
    devices = [resolve_device(device) for device in _devices(config)]
    clips = len(wanted.store.rows("train")) + len(wanted.store.rows("validation"))
    in_coordinates = spec is not wanted.spec
    states_bytes = clips * spec.bytes_per_clip if in_coordinates else round(config.states_gib * GIB)
    held = min(states_bytes, clips * spec.bytes_per_clip)
    plan = plan_training(
        spec,
        config.widths,
        config.ensemble * len(wanted.targets),
        batch_size=config.batch_size,
        clips=clips,
        states_bytes=states_bytes,
        memory_bytes=min(_memory(config, device, held) for device in devices),
        precision=config.precision,
        on_gpu=all(device.type == "cuda" for device in devices),
        mixed=config.layers == "mix",
        ensemble=config.ensemble,
        devices=len(devices),
    )
    watch.planned(plan)
    watch.say(f"{wanted.spec.form}: {plan}")
    return plan


def _devices(config: HeadsConfig) -> tuple[str, ...]:
    """What experts are trained on; an empty name is the first GPU, else the processor."""
    return config.devices or ("",)


def _memory(config: HeadsConfig, device: torch.device, held: int) -> int:
    """What a training on a device may take; processes on the processor share it, but have one copy of the states."""
    free = free_bytes(device) if config.memory == "auto" else round(config.memory * GIB)
    here = sum(resolve_device(name).type == "cpu" for name in _devices(config)) if device.type == "cpu" else 1
    return free if here < 2 else max(0, free - 2 * held) // here + held  # this process keeps its own


def _fit(
    wanted: TrainingRequest,
    watch: TrainingCallbacks,
    data: ExpertsDataModule,
    scaling: Scaling | None,
    group: slice,
    scratch: Path | None,
) -> TrainedGroup:
    whole = len(data.experts) == wanted.config.ensemble * len(wanted.targets)
    label = "" if whole else f" {group.start + 1} to {group.stop}"

    def report(metrics: Mapping[str, float], epoch: int) -> None:
        watch.report(metrics if whole else group_metrics(metrics), epoch)

    with watch.show(f"training experts{label} ({wanted.spec.form})", "steps") as progress:
        device = _devices(wanted.config)[0]
        return fit_group(wanted, data, scaling, report=report, progress=progress, device=device, scratch=scratch)
