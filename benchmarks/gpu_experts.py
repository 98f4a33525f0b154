"""Experts at work on a device: training out of a store and in a bank, and their forward pass."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from functools import partial

import torch

from benchmarks.gpu_limits import timed
from benchmarks.gpu_setting import Setting
from benchmarks.heads_forward import BATCHES
from benchmarks.heads_training import quietly
from benchmarks.rows import Row, seconds_of
from cache.store import FeatureStore
from emonet.configs import HIDDEN, HeadsConfig
from emonet.errors import EmonetError
from emonet.experts import ExpertBank, Features, QuantizedBank, Rounded
from emonet.runtime import ignore
from emonet.targets import EMOTIONS
from emonet.training import BankOptimiser, Precision, expert_losses, free_bytes, plan_training
from lightningmodules.experts import TrainingCallbacks, TrainingRequest, train_experts

TRAININGS: Mapping[Precision, int] = {"float32": 4, "mixed": 4, "bf16": 2}
"""Precision of the training -> bytes of a weight, and of each moment."""
WEIGHTS: Mapping[Rounded | None, int] = {None: 4, "bf16": 2, "int8": 1}
"""How the forward pass holds the first layer's weights (None: float32) -> bytes of one."""


def train_from_store(setting: Setting) -> list[Row]:
    """A few experts, out of the store that the last encoder's extraction left: reading counts.

    Raises:
        EmonetError: if there is no such store.
    """
    path = setting.store(list(setting.scale.encoders)[-1])
    if not path.is_dir():
        raise EmonetError("there are no states to train on", found="the extraction before did not end")
    store, experts = FeatureStore.open(path), setting.scale.trained
    config = HeadsConfig(batch_size=setting.scale.batch, epochs=1, patience=1)
    request = TrainingRequest(store, setting.spec, store.targets.ids[:experts], config, 0)
    scratch = setting.folder / "trained"
    scratch.mkdir()
    seconds = seconds_of(lambda: train_experts(request, TrainingCallbacks(ignore, quietly, scratch=scratch)))
    name = f"{experts} experts, an epoch out of the store, prediction included"
    flops = len(store) * 4 * experts * setting.spec.features * HIDDEN["small"][0]
    return [*setting.limits.against(name, seconds, flops=flops, arithmetic="float32"),
            Row(name, len(store) / seconds, "clips/s")]  # fmt: skip


def train_in_bank(setting: Setting) -> list[Row]:
    """Steps of all experts, the inputs on the device: in each precision, in the fewest groups that fit."""
    rows = []
    for precision, weight_bytes in TRAININGS.items():
        gc.collect()
        torch.cuda.empty_cache()  # what the bank before held would not count as free
        plan = plan_training(
            setting.spec, HIDDEN["small"], setting.scale.experts, batch_size=setting.scale.batch,
            clips=setting.scale.batch, states_bytes=0, memory_bytes=free_bytes(setting.device),
            precision=precision, on_gpu=setting.device.type == "cuda",
        )  # fmt: skip
        group = max(plan.groups)
        seconds = _step_seconds(setting, precision, group)
        first = group * setting.spec.features * HIDDEN["small"][0]
        together = "at once" if len(plan.groups) == 1 else f"a group of {group}"
        # A weight is read by the forward pass; it and its two moments are read and written by the update.
        rows += setting.limits.against(
            f"{setting.scale.experts} experts, {together}, a step of {setting.scale.batch} clips, {precision}",
            seconds,
            flops=4 * setting.scale.batch * first,
            arithmetic="float32" if precision == "float32" else "bf16",
            moved=7 * weight_bytes * first,
        )
    return rows


def _step_seconds(setting: Setting, precision: Precision, experts: int) -> float:
    bank = random_bank(setting, experts)
    assert isinstance(bank, ExpertBank)
    optimiser = BankOptimiser(bank, learning_rate=1e-5, weight_decay=0.01, precision=precision)
    features = _features(setting, setting.scale.batch)
    scores = torch.rand(setting.scale.batch, experts, device=setting.device)

    def step() -> None:
        loss = expert_losses(bank(features), scores, torch.ones_like(scores), "mae").sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    try:
        return timed(step, setting.device, setting.scale.steps)
    finally:
        optimiser.detach()


def forward(setting: Setting) -> list[Row]:
    """Scores of all experts for one clip and for a batch, with weights in float32, bf16 and int8."""
    rows = []
    weights = setting.scale.experts * setting.spec.features * HIDDEN["small"][0]
    for rounded, size in WEIGHTS.items():
        bank = random_bank(setting, setting.scale.experts, rounded)
        for clips in BATCHES:
            features = _features(setting, clips)
            with torch.inference_mode():
                seconds = timed(partial(bank, features), setting.device, setting.scale.steps)
            rows += setting.limits.against(
                f"forward, {clips} clips, {setting.scale.experts} experts in {rounded or 'float32'}",
                seconds,
                flops=2 * clips * weights,
                arithmetic="bf16" if rounded else "float32",
                moved=size * weights,
            )
        del bank  # before the next one is made
    return rows


def random_bank(setting: Setting, experts: int, rounded: Rounded | None = None) -> ExpertBank | QuantizedBank:
    """Experts with random weights, made on the device."""
    targets, hidden = EMOTIONS.ids[:experts], HIDDEN["small"]
    bank: ExpertBank | QuantizedBank
    with torch.device(setting.device):
        if rounded is None:
            bank = ExpertBank(setting.spec, targets, hidden, seed=None)
        else:
            bank = QuantizedBank(setting.spec, targets, hidden, rounded)
            bank.scale.fill_(1e-5)
    for weights in (*bank.parameters(), *([bank.first] if isinstance(bank, QuantizedBank) else ())):
        if weights.dtype == torch.int8:
            weights.random_(-127, 128)
        else:
            torch.nn.init.normal_(weights, std=weights.shape[-1] ** -0.5)
    return bank


def _features(setting: Setting, clips: int) -> Features:
    values = torch.randn(clips, setting.spec.features, device=setting.device).half()
    return Features(values, torch.full((clips,), setting.spec.frames, device=setting.device))
