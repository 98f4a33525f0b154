"""The memory plan of a training: how many experts at once, and how many passes over the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from emonet.errors import RequestError
from emonet.experts import InputSpec
from emonet.runtime import available_bytes, resident_bytes
from emonet.training.adamw import Precision, slice_bytes, weight_bytes

GIB = 1 << 30
SHARE = 0.9  # of the free memory; the rest is for what nobody counts
SMALL_LAYER_BYTES = 20  # a weight, its gradient, two moments and the best copy, in float32


@dataclass(frozen=True)
class TrainingPlan:
    """How experts are trained in the memory that there is.

    Args:
        groups: experts that are trained at once, group after group (count).
        bytes_per_expert: what each of a group takes in weights, moments and best copy.
        fixed_bytes: states, batches, the gradient of a slice, and what the process takes anyway.
        budget: memory that may be taken (bytes).
        streamed: whether each epoch of each group reads the store.
        precision: of the experts' training.
        devices: groups that are trained at the same time, each on a device (count).
    """

    groups: tuple[int, ...]
    bytes_per_expert: int
    fixed_bytes: int
    budget: int
    streamed: bool
    precision: str
    devices: int = 1

    @property
    def passes(self) -> int:
        """How often each epoch reads the store (count): groups that are trained at the same time share a read."""
        return -(-len(self.groups) // self.devices) if self.streamed else 0

    @property
    def peak_bytes(self) -> int:
        """The most memory that the training takes, as planned (bytes)."""
        return self.fixed_bytes + max(self.groups) * self.bytes_per_expert

    def halved(self, experts: int) -> TrainingPlan:
        """The experts that are left in groups of half the size, for when memory ran out all the same.

        Args:
            experts: that are left (count).

        Raises:
            ValueError: if the groups are of one expert each.
        """
        if max(self.groups) == 1:
            raise ValueError("a group of one expert cannot be halved")
        return replace(self, groups=_split(experts, (max(self.groups) + 1) // 2, self.devices))

    def __str__(self) -> str:
        experts = sum(self.groups)
        split = "at once" if len(self.groups) == 1 else f"in {len(self.groups)} groups of up to {max(self.groups)}"
        if self.devices > 1 and len(self.groups) > 1:
            split += f", {min(self.devices, len(self.groups))} at a time"
        read = f"each epoch reads the store {_times(self.passes)}" if self.streamed else "states in memory"
        return (
            f"{experts} experts {split}, {self.precision}, {read}, "
            f"{self.peak_bytes / GIB:.1f} of {self.budget / GIB:.1f} GiB of memory{' each' if self.devices > 1 else ''}"
        )


def plan_training(
    spec: InputSpec,
    hidden: Sequence[int],
    experts: int,
    *,
    batch_size: int,
    clips: int,
    states_bytes: int,
    memory_bytes: int,
    precision: Precision = "float32",
    on_gpu: bool = False,
    mixed: bool = False,
    ensemble: int = 1,
    devices: int = 1,
) -> TrainingPlan:
    """Split experts into the fewest groups of even size that fit; with several devices, into as many for each.

    Args:
        spec: the form of the input.
        hidden: outputs of the projection and of each hidden layer.
        experts: how many there are to train, members of ensembles included (count).
        batch_size: clips per step (count).
        clips: for training and validation (count).
        states_bytes: states up to this size are kept in memory; beyond it this is for clips that are read ahead.
        memory_bytes: that may be taken in all.
        precision: of the first layer's weights and products.
        on_gpu: the memory is a GPU's: copies of the best epochs, and states, stay in the machine's.
        mixed: experts mix the layers of `spec`; once trained they are weights on all of them.
        ensemble: members of each target, which follow one another and are trained at once where they fit (count).
        devices: that train a group each at the same time, each in `memory_bytes` (count).

    Raises:
        RequestError: if not even one expert fits; it says how much is missing and what would help.
    """
    folded = spec.features * hidden[0]
    first = folded // spec.layers if mixed else folded
    rest = sum((inputs + 1) * outputs for inputs, outputs in pairwise((*hidden, 1))) + hidden[0]
    held = 3 if on_gpu else 4  # the weight, two moments, and the best copy
    per_expert = first * held * weight_bytes(precision) + rest * SMALL_LAYER_BYTES
    if mixed:  # updated with the others, in float32, and at the end there are both
        per_expert = (first + rest) * SMALL_LAYER_BYTES + folded * weight_bytes("float32")
    kept = clips * spec.bytes_per_clip
    streamed = kept > states_bytes
    mixes = 8 * experts * spec.features // spec.layers if mixed else 0  # of one clip: each expert's, and its gradient
    fixed = batch_size * (_batch_bytes(spec, hidden, experts) + mixes) + slice_bytes(experts, first, precision)
    if not on_gpu:
        fixed += resident_bytes() + min(kept, states_bytes)
    fit = (memory_bytes - fixed) // per_expert
    if fit < 1:
        raise RequestError(
            "there is not enough memory to train even one expert",
            where=f"{spec.form}, {spec.features:,} inputs, {'-'.join(map(str, hidden))}, {precision}",
            expected=f"{(fixed + per_expert) / GIB:.1f} GiB",
            found=f"{memory_bytes / GIB:.1f} GiB",
            hint="--heads.features principal, or --heads.precision bf16, a smaller --heads.batch-size, or less in "
            "--heads.states-gib",
        )
    together = ensemble if fit >= ensemble else 1
    groups = tuple(together * size for size in _split(experts // together, min(fit, experts) // together, devices))
    return TrainingPlan(groups, per_expert, fixed, memory_bytes, streamed, precision, devices)


def _batch_bytes(spec: InputSpec, hidden: Sequence[int], experts: int) -> int:
    """Of one clip of a batch: its input as read, in float32 and once more scaled, and the hidden layers thrice."""
    return spec.bytes_per_clip + 8 * spec.features + 12 * experts * sum(hidden)


def _split(experts: int, largest: int, devices: int = 1) -> tuple[int, ...]:
    """As few groups as `largest` allows, as many for each device, whose sizes differ by at most one."""
    groups = min(experts, -(-experts // (largest * devices)) * devices)
    return tuple(experts // groups + (position < experts % groups) for position in range(groups))


def free_bytes(device: torch.device) -> int:
    """Memory that a training on `device` may take: a share of what is free there, and of what this process has.

    On the processor that is what the system calls available, or the container's limit where that is lower.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(SHARE * free)
    return int(SHARE * (available_bytes() + resident_bytes()))


def _times(passes: int) -> str:
    return {1: "once", 2: "twice"}.get(passes, f"{passes} times")
