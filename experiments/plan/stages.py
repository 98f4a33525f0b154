"""Stages of a plan: what each takes, part by part, and which part it waits for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from emonet.configs import InputForm
from emonet.experts import InputSpec
from emonet.schema import Schema
from emonet.training import TrainingPlan, plan_training
from experiments.core import Experiment
from experiments.plan.rates import GB, STEP_SECONDS, Rates
from experiments.plan.workload import Workload

STORED = {"none": 1.0, "lossless": 0.75, "bfloat": 0.56, "int8": 0.47}  # of a state's two bytes (docs/store.md)
AUDIO = 32_000.0  # bytes of a second: 16 kHz of 16 bits; compressed files have less
BACKWARD = 3.0  # a training step's operations, of those of a forward pass
AGAIN = 4 / 3  # of them, with gradient checkpointing
HOST = 4 * GB  # the process itself, decoders and what waits between them
STATISTICS = 4
Stage = Literal["pretrain", "extract", "heads", "sweep"]


class StagePlan(Schema):
    """What one stage takes."""

    stage: Stage
    """The verb."""
    hours: float
    """From start to end (hours)."""
    bottleneck: str
    """The part that it waits for."""
    parts: dict[str, float]
    """Part -> hours that it would take if it alone had to be waited for."""
    clips_per_second: float
    """Clips of the corpus, or in training passes over them (clips/s)."""
    disk_gb: float
    """What it leaves on disk, or needs there (GB)."""
    device_gb: float
    """Memory of each GPU, or of the process on a processor (GB)."""
    host_gb: float
    """Memory of the machine besides (GB)."""
    network_gb: float
    """What it moves, if corpus and store lie on another machine (GB)."""
    usd: float
    """Price (US dollars)."""
    notes: tuple[str, ...] = ()
    """What else is to be said."""


@dataclass(frozen=True)
class _Taken:
    """A stage before its price."""

    parts: Mapping[str, float]
    beside: bool = False  # whether the parts go on at the same time
    clips: float = 0.0
    disk: float = 0.0
    device: float = 0.0
    host: float = HOST
    network: float = 0.0
    notes: tuple[str, ...] = ()

    def plan(self, stage: Stage, rates: Rates) -> StagePlan:
        """With its price, in hours and GB."""
        seconds = (max if self.beside else sum)(self.parts.values())
        hours = (seconds + rates.start) / 3600
        waits = max(self.parts, key=lambda part: self.parts[part])
        return StagePlan(
            stage=stage,
            hours=hours,
            bottleneck=waits if self.parts[waits] > rates.start else "start",
            parts={part: taken / 3600 for part, taken in self.parts.items()},
            clips_per_second=self.clips / (seconds + rates.start),
            disk_gb=self.disk / GB,
            device_gb=self.device / GB,
            host_gb=self.host / GB,
            network_gb=self.network / GB,
            usd=hours * rates.usd,
            notes=self.notes,
        )


def plan_stages(experiment: Experiment, work: Workload, rates: Rates) -> list[StagePlan]:
    """All stages of an experiment, in their order; the sweep last.

    Raises:
        RequestError: if the memory does not suffice for one expert, or a field does not fit.
    """
    stages = [] if work.captioner is None else [_pretrain(experiment, work, rates).plan("pretrain", rates)]
    stages.append(_extract(experiment, work, rates).plan("extract", rates))
    stages.append(_heads(experiment, work, rates).plan("heads", rates))
    if experiment.sweep.stage == "heads":
        stages.append(_sweep(experiment, work, rates).plan("sweep", rates))
    return stages


def _pretrain(experiment: Experiment, work: Workload, rates: Rates) -> _Taken:
    config, shape = experiment.captioner, work.captioner
    assert shape is not None
    encoder, decoder = shape.encoder_flops(work.hears), shape.decoder_flops(work.hears)
    frozen = "encoder" in config.freeze or config.encoder_rate == 0
    again = AGAIN if config.gradient_checkpointing else 1.0
    step = (encoder * (1 if frozen else BACKWARD) + decoder * BACKWARD) * again
    train = config.epochs * (work.train * step + work.validation * (encoder + decoder)) / rates.train
    heard = work.train + work.validation
    weights = shape.parameters
    layers = 1 + (shape.layers if not config.gradient_checkpointing else 1)
    kept = 34 * work.hears.frames * shape.width * layers  # bytes of a clip's activations (arXiv 2205.05198)
    return _Taken(
        parts={"decode": heard * work.seconds / rates.decode, "train": train},
        beside=rates.on_gpu,
        clips=config.epochs * work.train,
        disk=(4 + 2 * 12) * weights,  # itself, and two checkpoints with its moments
        device=16 * weights + config.batch_size * kept,
        host=HOST + min(heard * work.seconds * AUDIO, 4 * GB),
        network=heard * work.seconds * AUDIO,
        notes=(f"{config.epochs} epochs, at most: the training stops when {config.patience} do not help",),
    )


def clip_bytes(experiment: Experiment, work: Workload) -> tuple[float, float]:
    """States of a clip: before they are stored, and stored."""
    config, width = experiment.extraction, work.encoder.width * len(work.layers)
    if config.pool == "statistics":
        return 2.0 * STATISTICS * width, 2.0 * STATISTICS * width * max(STORED[config.codec], STORED["lossless"])
    raw = 2.0 * work.window.frames * width
    heard = min(1.0, work.seconds / work.window.seconds) if config.frames == "speech" else 1.0
    return raw, raw * STORED[config.codec] * heard


def _extract(experiment: Experiment, work: Workload, rates: Rates) -> _Taken:
    raw, stored = (work.clips * size for size in clip_bytes(experiment, work))
    flops = work.clips * work.encoder.encoder_flops(work.window, work.layers[-1])
    audio = work.clips * work.seconds
    packed = 0.2 if experiment.extraction.codec == "none" else 1.0  # it is hashed all the same
    work_of = {
        "decode": audio / rates.decode,
        "encode": flops / rates.encode,
        "compress": packed * raw / rates.compress,
    }
    parts = {part: seconds / rates.pipeline for part, seconds in work_of.items()}
    if rates.on_gpu:
        parts |= {"disk": stored / rates.disk, "network": audio * AUDIO / rates.network}
    batch = experiment.extraction.batch_size if experiment.extraction.batch_size != "auto" else 64
    activations = batch * 20 * work.window.frames * work.encoder.width  # a layer's, a layer after the other
    shard = experiment.extraction.shard_clips * raw / max(1, work.clips)
    return _Taken(
        parts,
        beside=rates.on_gpu,
        clips=work.clips,
        disk=stored,
        device=2 * work.encoder.parameters + activations,
        host=HOST + 3 * shard * rates.devices,
        network=audio * AUDIO + stored,
    )


def specs_of(experiment: Experiment, work: Workload) -> dict[InputForm, InputSpec]:
    """What experts of each form see."""
    config, width = experiment.heads, work.encoder.width * len(work.layers)
    return {
        form: InputSpec(form, config.frames, work.window.frames, width, layers=len(work.layers))
        for form in dict.fromkeys(config.inputs)
    }


def _heads(experiment: Experiment, work: Workload, rates: Rates) -> _Taken:
    raw, stored = clip_bytes(experiment, work)
    parts = {"read": 0.0, "train": 0.0}
    disk, device, host, network, notes = 0.0, 0.0, HOST, 0.0, list[str]()
    specs = specs_of(experiment, work)
    for form, spec in specs.items():
        form_spec, plan = _plan(experiment, work, rates, form, spec)
        epochs = experiment.heads.epochs
        read, train = _training(experiment, work, rates, form, plan, form_spec, epochs)
        # Scaling before, and predictions of all clips after the training.
        read += 2 * work.clips * raw / rates.read
        parts = {"read": parts["read"] + read, "train": parts["train"] + train}
        if form_spec is not spec:
            parts["coordinates"] = parts.get("coordinates", 0.0) + _coordinates(work, rates, spec)
            notes.append(f"{form} in {form_spec.features:,} principal coordinates, which memory has to hold all of")
        experts = sum(plan.groups)
        disk += 2 * experts * 4 * spec.features * experiment.heads.widths[0]  # those that wait, and the model
        device, network = max(device, plan.peak_bytes), network + read * rates.read * stored / raw
        held = min(experiment.heads.states_gib * 2**30, (work.train + work.validation) * spec.bytes_per_clip)
        host = max(host, HOST + held)
        notes.append(f"{form}: {plan}")
    notes.append(
        f"{experiment.heads.epochs} epochs, at most: an expert stops when {experiment.heads.patience} do not help"
    )
    clips = experiment.heads.epochs * work.train * len(specs)
    return _Taken(parts, rates.on_gpu, clips, disk, device, host, network, tuple(notes))


def _plan(
    experiment: Experiment, work: Workload, rates: Rates, form: InputForm, spec: InputSpec
) -> tuple[InputSpec, TrainingPlan]:
    config = experiment.heads
    in_coordinates = form == "flatten" and config.features == "principal"
    if in_coordinates:
        rank = config.rank if isinstance(config.rank, int) else max(1, min(work.train - 1, spec.features))
        spec = InputSpec("flatten", "all", 1, rank)
    clips = work.train + work.validation
    plan = plan_training(
        spec,
        config.widths,
        config.ensemble * work.targets,
        batch_size=config.batch_size,
        clips=clips,
        states_bytes=clips * spec.bytes_per_clip if in_coordinates else round(config.states_gib * 2**30),
        memory_bytes=round(0.9 * rates.memory if config.memory == "auto" else config.memory * 2**30),
        precision=config.precision,
        on_gpu=rates.on_gpu,
        mixed=config.layers == "mix",
        ensemble=config.ensemble,
        devices=rates.devices,
    )
    return spec, plan


def _training(
    experiment: Experiment,
    work: Workload,
    rates: Rates,
    form: InputForm,
    plan: TrainingPlan,
    spec: InputSpec,
    epochs: int,
) -> tuple[float, float]:
    """Seconds of reading, and of steps, of all groups."""
    config, raw = experiment.heads, clip_bytes(experiment, work)[0]
    rounds, group = -(-len(plan.groups) // plan.devices), max(plan.groups)
    steps = -(-work.train // config.batch_size) + work.validation / config.batch_size / BACKWARD
    if form in rates.steps:
        of_one, of_all = rates.steps[form]
        step = of_all + group * of_one
    else:
        weights = group * spec.features * config.widths[0]
        size = 2 if config.precision == "bf16" else 4
        step = 4 * config.batch_size * weights / rates.experts[config.precision]
        step += 7 * size * weights / rates.bandwidth  # read by the products; it and two moments read and written
        step = max(step, STEP_SECONDS)
    read = (epochs * plan.passes if plan.streamed else 1) * (work.train + work.validation) * raw / rates.read
    return read, rounds * epochs * steps * step


def _coordinates(work: Workload, rates: Rates, spec: InputSpec) -> float:
    """Products of all training clips with each other, and of the others with them."""
    rate = rates.experts.get("float32", rates.encode / 3)
    return work.clips * work.train * 2.0 * spec.features / rate / rates.devices


def _sweep(experiment: Experiment, work: Workload, rates: Rates) -> _Taken:
    config = experiment.sweep
    epochs = config.epochs or experiment.heads.epochs
    parts, specs = {"read": 0.0, "train": 0.0}, specs_of(experiment, work)
    for form, spec in specs.items():
        form_spec, plan = _plan(experiment, work, rates, form, spec)
        read, train = _training(experiment, work, rates, form, plan, form_spec, epochs)
        parts = {
            "read": parts["read"] + config.trials * read / len(specs),
            "train": parts["train"] + config.trials * train / len(specs),
        }
    return _Taken(
        parts,
        rates.on_gpu,
        clips=config.trials * epochs * work.train,
        host=HOST,
        notes=(f"{config.trials} trials of up to {epochs} epochs with the experiment's own settings; none is pruned",),
    )
