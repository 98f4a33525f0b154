"""How long a training of full-size experts will take: a step and a read are tried before it starts."""

from __future__ import annotations

import time

import numpy as np
import torch

from cache.store import FeatureStore
from emonet.configs import HeadsConfig
from emonet.experts import HeadBank, InputSpec
from emonet.training import BankOptimiser, TrainingPlan, expert_losses

WORTH_ASKING = 1 << 22  # weights of an expert's first layer: below, all is over in minutes
READ = 8  # clips


def expected_seconds(
    plan: TrainingPlan, store: FeatureStore, spec: InputSpec, config: HeadsConfig, device: torch.device
) -> float | None:
    """At most, for all epochs of all groups; early stopping ends sooner. None where it is not worth asking.

    Args:
        plan: groups, and whether they read the store.
        store: a few clips of it are read.
        spec: the form of the input.
        config: batch size, epochs, precision.
        device: where experts are trained.
    """
    if spec.form != "flatten" or spec.features * config.widths[0] < WORTH_ASKING:
        return None
    clips = len(store.rows("train"))
    steps = -(-clips // config.batch_size) * sum(plan.groups) * _step(spec, config, device)
    reading = plan.passes * clips * _read(store) if plan.streamed else 0.0
    return config.epochs * (steps + reading)


def _step(spec: InputSpec, config: HeadsConfig, device: torch.device) -> float:
    """Seconds of one expert's step; the first finds memory and does not count."""
    bank = HeadBank(spec, ["probe"], config.widths, seed=0, dropout=config.dropout).to(device)
    optimiser = BankOptimiser(
        bank, learning_rate=0.0, weight_decay=0.0, precision=config.precision, state=config.optimiser_state
    )
    states = torch.zeros(config.batch_size, spec.frames, spec.width, dtype=torch.float16)
    features = spec.prepare(states, torch.full((config.batch_size,), spec.frames)).to(device)
    scores = torch.ones(config.batch_size, 1, device=device)
    taken = 0.0
    for _ in range(2):
        started = time.perf_counter()
        loss = expert_losses(bank(features), scores, torch.ones_like(scores), config.loss).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken = time.perf_counter() - started
    return taken


def _read(store: FeatureStore) -> float:
    """Seconds to read a clip that was not read before, if the corpus is large."""
    rows = np.random.default_rng().choice(store.rows("train"), READ)
    started = time.perf_counter()
    store.read(rows)
    return (time.perf_counter() - started) / READ
