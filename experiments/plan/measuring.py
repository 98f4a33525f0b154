"""Rates of this machine, measured within a minute with the experiment's own shapes: nothing of the corpus is needed."""

from __future__ import annotations

import hashlib
import io
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cache.store import TIERS
from emonet.audio import LogMel, decode, processors
from emonet.experts import ExpertBank, Features, InputSpec
from emonet.runtime import resolve_device, resolve_precision
from emonet.targets import EMOTIONS
from emonet.training import BankOptimiser, expert_losses, free_bytes
from emonet.windows import SAMPLE_RATE, Window
from experiments.core import Experiment
from experiments.plan.rates import NETWORK, Rates
from experiments.plan.stages import specs_of
from experiments.plan.workload import TOKENS, Shape, Workload

REPEATS = 3
MOST_SECONDS = 2.0  # of a measurement: a pass through the encoder alone may take longer
FEW = 8  # experts of a step that is measured, beside a step of one
LARGE = 1 << 26  # weights of a bank that one expert is enough of
DISK_BYTES = 1 << 26
START_SECONDS = 20.0  # to import, load, log and register: a stage here


def measured(experiment: Experiment, work: Workload, progress: Callable[[int, int], None]) -> Rates:
    """What this machine does.

    Args:
        experiment: whose precision, codec and experts are tried.
        work: whose shapes are.
        progress: called with the number of measurements that are done.
    """
    device, rates = resolve_device(), dict[str, Any]()
    tried: dict[str, Callable[[], Any]] = {
        "encode": lambda: _encode(experiment, work.encoder, work.window, device),
        "train": lambda: _train(experiment, work.captioner, work.hears, device) if work.captioner else 1.0,
        "decode": lambda: _decode(work) * processors(),
        "packing": lambda: _packing(experiment, work),
        "disk": lambda: _disk(experiment.runs),
        "steps": lambda: {form: _step(experiment, spec, device) for form, spec in specs_of(experiment, work).items()},
    }
    for number, (name, measure) in enumerate(tried.items()):
        progress(number, len(tried))
        rates[name] = measure()
    progress(len(tried), len(tried))
    compress, read = rates.pop("packing")
    gpus = torch.cuda.device_count() if device.type == "cuda" else 1
    return Rates(
        label=_label(device, gpus),
        devices=gpus,
        processors=processors(),
        on_gpu=device.type == "cuda",
        encode=gpus * rates["encode"],
        train=gpus * rates["train"],
        decode=rates["decode"],
        compress=compress * processors(),
        read=read * processors(),
        disk=rates["disk"],
        network=NETWORK,
        memory=free_bytes(device),
        start=START_SECONDS,
        usd=0.0,
        steps=rates["steps"],
        notes=(
            f"measured here within a minute: encoder {rates['encode'] / 1e9:,.0f} GFLOP/s"
            + (f", captioner's training {rates['train'] / 1e9:,.0f} GFLOP/s" if work.captioner else "")
            + f", decoding {rates['decode']:,.0f} s of audio, compression {compress * processors() / 1e6:,.0f} MB and "
            f"decompression {read * processors() / 1e6:,.0f} MB of states, disk {rates['disk'] / 1e6:,.0f} MB a second",
            "a training step "
            + ", ".join(
                f"of {form} {1000 * of_all:.1f} ms and {1000 * of_one:.2f} ms for each expert"
                for form, (of_one, of_all) in rates["steps"].items()
            ),
            f"each stage takes {START_SECONDS:g} s besides, to import, load, log and register",
            "what else runs on the machine is taken to stay as it is now",
        ),
    )


def _label(device: torch.device, gpus: int) -> str:
    if device.type == "cuda":
        return f"this machine: {gpus} x {torch.cuda.get_device_name(device)}"
    return f"this machine: {processors()} processors"


def _seconds(call: Callable[[], object], device: torch.device | None = None) -> float:
    """Seconds of a call: the median of some, after one that does not count unless it took long."""

    def waited() -> float:
        started = time.perf_counter()
        call()
        if device is not None and device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    first = waited()
    if first > MOST_SECONDS:
        return first
    return statistics.median(waited() for _ in range(REPEATS))


def _model(shape: Shape, window: Window) -> Any:
    """A Whisper of random weights."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    heads = max(1, shape.width // 64)
    return WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=max(shape.words, 300), d_model=shape.width, encoder_layers=shape.layers,
            decoder_layers=shape.decoder or 1, encoder_attention_heads=heads, decoder_attention_heads=heads,
            encoder_ffn_dim=shape.hidden, decoder_ffn_dim=shape.hidden, num_mel_bins=shape.mels or 80,
            max_source_positions=window.frames, pad_token_id=0, bos_token_id=1, eos_token_id=2,
            decoder_start_token_id=3,
            suppress_tokens=None, begin_suppress_tokens=None,
        )
    )  # fmt: skip


def _encode(experiment: Experiment, shape: Shape, window: Window, device: torch.device) -> float:
    """FLOP/s of an encoder of this shape, log-mel included; one of samples counts as one of log-mels."""
    from emonet.encoders import FrozenEncoder

    shape = Shape(shape.width, min(shape.layers, 4), shape.hidden, shape.mels or 80)  # its layers are alike
    with tempfile.TemporaryDirectory() as folder:
        _model(shape, window).model.encoder.save_pretrained(folder)
        encoder = FrozenEncoder.load(folder, precision=experiment.extraction.precision, device=str(device))
    clips = min(8 if device.type == "cpu" else 64, encoder.batch_size())
    waveforms = 0.1 * torch.randn(clips, window.samples)
    return clips * encoder.flops_per_clip / _seconds(lambda: encoder.states(waveforms), device)


def _train(experiment: Experiment, shape: Shape, window: Window, device: torch.device) -> float:
    """FLOP/s of a training step of a captioner, as `Shape` counts them."""
    flops = 3 * (shape.encoder_flops(window) + shape.decoder_flops(window))
    batch = max(1, min(experiment.captioner.batch_size, int(4e12 // flops)))
    arithmetic = resolve_precision(experiment.captioner.precision, device)
    model, mel = _model(shape, window).to(device).train(), LogMel(shape.mels or 80)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-6)
    labels = torch.randint(4, max(shape.words, 300), (batch, TOKENS), device=device)
    waveforms: Tensor = 0.1 * torch.randn(batch, window.samples)

    def step() -> None:
        features = mel(waveforms).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=arithmetic == "bf16"):
            loss = model(input_features=features, labels=labels).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return batch * flops / _seconds(step, device)


def _decode(work: Workload) -> float:
    """Seconds of audio that a processor decodes in one: of a WAV of 16 bits at 48 kHz."""
    import soundfile

    seconds, file = max(0.5, work.seconds), io.BytesIO()
    sound = 0.1 * np.random.default_rng(0).standard_normal(round(3 * SAMPLE_RATE * seconds))
    soundfile.write(file, sound, 3 * SAMPLE_RATE, format="WAV")
    return seconds / _seconds(lambda: decode(file.getvalue()))


def _packing(experiment: Experiment, work: Workload) -> tuple[float, float]:
    """Bytes of states that a processor compresses and hashes, and that it decompresses, in a second."""
    tier, width = TIERS[experiment.extraction.codec], work.encoder.width * len(work.layers)
    frames = 4 if experiment.extraction.pool == "statistics" else work.window.frames
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.standard_normal((frames, width)), 0) / frames**0.5 + rng.standard_normal(width)
    states = walk.astype(np.float16)  # neighbouring states are alike, channels are not
    encoded, out = tier.encode(states), np.empty_like(states)
    packed = _seconds(lambda: hashlib.sha256(tier.encode(states).restored.data).digest())
    read = _seconds(lambda: tier.decode(encoded.chunk, encoded.scales, out))
    return states.nbytes / packed, states.nbytes / read


def _disk(folder: Path) -> float:
    """Bytes a second that are written, and are safe, where the runs are."""
    folder.mkdir(parents=True, exist_ok=True)
    content = os.urandom(DISK_BYTES)

    def write() -> None:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    return DISK_BYTES / _seconds(write)


def _step(experiment: Experiment, spec: InputSpec, device: torch.device) -> tuple[float, float]:
    """Seconds of a step for each expert, and for none: by steps of one expert, and of a few."""
    config = experiment.heads
    if (spec.form, config.features) == ("flatten", "principal"):
        spec = InputSpec("flatten", "all", 1, 1000)
    large = spec.features * config.widths[0] > LARGE
    values = (
        (config.batch_size, spec.frames, spec.width) if spec.form == "attention" else (config.batch_size, spec.features)
    )
    features = Features(torch.randn(*values), torch.full((config.batch_size,), spec.frames))

    def seconds(experts: int) -> float:
        bank = (
            ExpertBank(spec, EMOTIONS.ids[:experts], config.widths, seed=0, dropout=config.dropout).to(device).train()
        )
        optimiser = BankOptimiser(bank, learning_rate=1e-5, weight_decay=0.01, precision=config.precision)
        scores = torch.rand(config.batch_size, experts, device=device)

        def step() -> None:
            losses = expert_losses(bank(features.to(device)), scores, torch.ones_like(scores), "mae")
            losses.sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()

        try:
            return _seconds(step, device)
        finally:
            optimiser.detach()

    one, several = seconds(1), 1 if large else FEW
    if several == 1:
        return one, 0.0
    of_one = max(0.0, (seconds(several) - one) / (several - 1))
    return of_one, max(0.0, one - of_one)
