"""Inputs of experts: what they see of a store's clips, prepared once, for any number of trainings.

inputs = read_inputs(store, spec, memory_gib=4.0)
data = ExpertsDataModule(inputs, ["anger", "fear"], batch_size=64, seed=0)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float16, Float32, Int

from cache.store import FeatureStore
from emonet.clips import SPLITS, Split
from emonet.configs import HeadsConfig, InputForm
from emonet.errors import RequestError
from emonet.experts import POOLED_FORMS, Features, InputSpec, LayerPick, Scaling, ScalingMeter
from emonet.runtime import Progress, ignore

READ_CLIPS = 16  # clips read at once: 37 MB of Whisper small's states
GIB = 1 << 30


@dataclass(frozen=True)
class Inputs:
    """Prepared clips of a store; made by `read_inputs` or `given_inputs`, and never written to afterwards.

    Args:
        store: whose clips they are.
        spec: the form of the input.
        held: prepared clips in memory, by split; those of other splits are read from the store as they are asked for.
        memory_bytes: for clips that are read ahead where training clips are not held.
    """

    store: FeatureStore
    spec: InputSpec
    held: Mapping[Split, Features]
    memory_bytes: float

    @property
    def in_memory(self) -> bool:
        """Whether training clips are held."""
        return "train" in self.held

    @property
    def nbytes(self) -> int:
        """Memory that prepared clips take (bytes)."""
        return sum(tensor.nbytes for features in self.held.values() for tensor in features)

    @cached_property
    def scaling(self) -> Scaling:
        """Mean and deviation over the training clips, in one pass when first asked for.

        Raises:
            ValueError: if there are no training clips.
        """
        meter = ScalingMeter(self.spec)
        for features in self.in_order("train"):
            meter.update(features)
        return meter.scaling()

    @cached_property
    def rows(self) -> Mapping[Split, Int[np.ndarray, " clips"]]:
        """Rows of the store that have states, by split."""
        return {split: self.store.rows(split) for split in SPLITS}

    def of(self, split: Split, positions: Int[np.ndarray, " batch"]) -> Features:
        """Prepared clips at these positions among a split's rows."""
        held = self.held.get(split)
        return self.read(self.rows[split][positions]) if held is None else held.rows(torch.from_numpy(positions))

    def in_order(self, split: Split) -> Iterator[Features]:
        """All clips of a split in order, a few at a time."""
        clips = len(self.rows[split])
        for start in range(0, clips, READ_CLIPS):
            yield self.of(split, np.arange(start, min(start + READ_CLIPS, clips)))

    def read(self, rows: Int[np.ndarray, " batch"]) -> Features:
        """Prepared clips at these rows of the store, read from it."""
        return self.prepare(rows, self.store.read(rows))

    def prepare(self, rows: Int[np.ndarray, " batch"], states: Float16[np.ndarray, "batch _ width"]) -> Features:
        """Prepared clips at these rows of the store, whose states have been read."""
        lengths = torch.from_numpy(self.store.speech_frames(rows))
        return self.spec.prepare(torch.from_numpy(states), lengths, pooled=self.store.pooled)


def spec_of(store: FeatureStore, form: InputForm, config: HeadsConfig) -> InputSpec:
    """What experts of a form see of a store's clips.

    Args:
        store: where the states are.
        form: of the input.
        config: which layers, and which frames are pooled over.

    Raises:
        RequestError: if the store does not have these layers, coordinates cannot be of them, it keeps only statistics
            of what the form needs, or layers of another form than statistics are to be mixed.
    """
    record = store.record
    if config.layers == "mix":
        _require_mixable(store, form, config)
    if store.pooled and (form not in POOLED_FORMS or config.frames != "speech"):
        raise RequestError(
            "this store keeps statistics over the states that hear a clip, not the states themselves",
            where=store.path,
            expected=f"--heads.inputs statistics --heads.frames speech{_without(form, config)}",
            found=f"--heads.frames {config.frames} {_asked(form, config)}",
            hint="other forms need the states: emonet extract --extraction.pool none --force",
        )
    if isinstance(config.layers, str):  # all of them, mixed or side by side
        return InputSpec(form, config.frames, record.frames, record.width, layers=len(record.layers or (0,)))
    there, wanted = record.layers or (), tuple(sorted(set(config.layers)))
    if not wanted or not set(wanted) <= set(there):
        raise RequestError(
            "the store does not have the states of these layers",
            where=store.path,
            expected=f"some of {' '.join(map(str, there))}" if there else "--heads.layers all, its encoder's last",
            found=f"--heads.layers {' '.join(map(str, config.layers))}",
            hint="emonet extract --extraction.layers all --force makes a store of all layers",
        )
    if wanted != there and (form, config.features) == ("flatten", "principal"):
        raise RequestError(
            "principal coordinates are of all layers of a store",
            where=store.path,
            expected="--heads.layers all, or --heads.features states",
            found=f"--heads.layers {' '.join(map(str, config.layers))} --heads.features principal",
        )
    picked = LayerPick(len(there), tuple(map(there.index, wanted))) if wanted != there else None
    width = record.width // len(there) * len(wanted)
    return InputSpec(form, config.frames, record.frames, width, layers=len(wanted), picked=picked)


def _compared(form: InputForm, config: HeadsConfig) -> bool:
    """Whether a form is trained for the sake of comparison alone."""
    return config.compare_inputs and form not in config.inputs


def _asked(form: InputForm, config: HeadsConfig) -> str:
    return f"--heads.compare-inputs, which also trains {form}" if _compared(form, config) else f"--heads.inputs {form}"


def _without(form: InputForm, config: HeadsConfig) -> str:
    return ", without --heads.compare-inputs" if _compared(form, config) else ""


def _require_mixable(store: FeatureStore, form: InputForm, config: HeadsConfig) -> None:
    layers = store.record.layers or (0,)
    if form not in POOLED_FORMS:
        raise RequestError(
            "only statistics of layers can be mixed",
            expected=f"--heads.layers mix --heads.inputs statistics{_without(form, config)}",
            found=f"--heads.layers mix {_asked(form, config)}",
            hint="--heads.layers all, or numbers, goes with every form of input",
        )
    if len(layers) == 1:
        raise RequestError(
            "the store has a single layer: there is nothing to mix",
            where=store.path,
            expected="several layers, or --heads.layers all",
            found=f"layer {layers[0]}" if store.record.layers else "the encoder's last layer",
            hint="emonet extract --extraction.layers all --force makes a store of all layers",
        )


def read_inputs(store: FeatureStore, spec: InputSpec, *, memory_gib: float, progress: Progress = ignore) -> Inputs:
    """Training and validation clips, in memory if they fit; no state of a test clip is read.

    Args:
        store: where the states are.
        spec: the form of the input.
        memory_gib: up to this size prepared clips are kept in memory; beyond it each epoch reads the store, and this
            is the memory for clips that are read ahead, but no less than two batches (GiB).
        progress: called with the number of training clips read into memory.
    """
    inputs = Inputs(store, spec, {}, memory_gib * GIB)
    if held_bytes(store, spec) > inputs.memory_bytes:
        return inputs
    return Inputs(
        store, spec,
        {"train": _load(inputs, inputs.rows["train"], progress),
         "validation": _load(inputs, inputs.rows["validation"], ignore)},
        inputs.memory_bytes,
    )  # fmt: skip


def read_all(store: FeatureStore, spec: InputSpec, *, progress: Progress = ignore) -> Features:
    """All usable clips of a store, whatever their split, in the order of `store.rows()`: see `divided_inputs`.

    Args:
        store: where the states are.
        spec: the form of the input.
        progress: called with the number of clips read into memory.
    """
    return _load(Inputs(store, spec, {}, 0.0), store.rows(), progress)


def divided_inputs(store: FeatureStore, spec: InputSpec, every: Features) -> Inputs:
    """Clips of a store with its present splits, all of them taken out of what `read_all` has read once.

    Args:
        store: with any splits over the same clips.
        spec: the form of the input.
        every: its usable clips.
    """
    places = {split: np.searchsorted(store.rows(), store.rows(split)) for split in SPLITS}
    held = {split: every.rows(torch.from_numpy(some)) for split, some in places.items()}
    return Inputs(store, spec, held, 0.0)


def given_inputs(
    store: FeatureStore, spec: InputSpec, values: Mapping[Split, Float32[np.ndarray, "_ features"]]
) -> Inputs:
    """Values that stand in for the states of a split's usable clips.

    Args:
        store: whose clips they are.
        spec: flatten, with their number as the width of one frame.
        values: one row per usable clip, by split; no others can be asked for.
    """
    held = {
        split: Features(torch.from_numpy(some), torch.ones(len(some), dtype=torch.int64))
        for split, some in values.items()
    }
    return Inputs(store, spec, held, 0.0)


def held_bytes(store: FeatureStore, spec: InputSpec) -> int:
    """What training and validation clips take once prepared (bytes)."""
    return (len(store.rows("train")) + len(store.rows("validation"))) * spec.bytes_per_clip


def _load(inputs: Inputs, rows: Int[np.ndarray, " clips"], progress: Progress) -> Features:
    """Fill one array a few clips at a time, so that memory never holds the states twice."""
    filled = Features(*(tensor.new_empty(len(rows), *tensor.shape[1:]) for tensor in inputs.read(rows[:0])))
    progress(0, len(rows))
    for start in range(0, len(rows), READ_CLIPS):
        part = inputs.read(rows[start : start + READ_CLIPS])
        for whole, tensor in zip(filled, part, strict=True):
            whole[start : start + len(tensor)] = tensor
        progress(min(start + READ_CLIPS, len(rows)), len(rows))
    return filled
