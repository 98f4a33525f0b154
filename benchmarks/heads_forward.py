"""The forward pass of 40 Small experts: float32 modules called one by one, as public scripts do, against a bank."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.rows import interleaved_seconds
from emonet.checkpoints import open_published
from emonet.configs import HIDDEN
from emonet.experts import Features, InputSpec, QuantizedBank, Rounded, layer_keys
from emonet.runtime import seed_of
from emonet.targets import EMOTIONS

FRAMES, WIDTH = 1500, 768
FEATURES = FRAMES * WIDTH
PRECISIONS: tuple[Rounded, ...] = ("bf16", "int8")
BATCHES = (1, 32)


class FullEmbeddingMLP(nn.Module):
    """One published expert, as public scripts write it down.

    Args:
        features: values of a clip's flattened states.
    """

    def __init__(self, features: int = FEATURES) -> None:
        super().__init__()
        first, *others = HIDDEN["small"]
        self.proj = nn.Linear(features, first)
        pairs = pairwise((first, *others, 1))
        self.mlp = nn.Sequential(
            *(module for pair in pairs for module in (nn.ReLU(), nn.Dropout(0.1), nn.Linear(*pair)))
        )

    def forward(self, states: Tensor) -> Tensor:
        scores: Tensor = self.mlp(self.proj(states.flatten(1)))
        return scores


@dataclass(frozen=True)
class Forward:
    """Seconds of one forward pass of all experts, and how far a bank's scores are from those of float32.

    Args:
        seconds: (contestant, clips) -> median.
        errors: contestant -> largest difference, as a share of the scores' deviation.
        bytes: contestant -> memory of its weights.
    """

    seconds: Mapping[tuple[str, int], float]
    errors: Mapping[str, float]
    bytes: Mapping[str, int]


def write_published(folder: Path, experts: int) -> None:
    """Files as the published ones, with random weights: `model_<Name>_best.pth`, 295 MB each."""
    folder.mkdir(parents=True)
    for target in EMOTIONS.targets[:experts]:
        torch.save(_weights(target.id), folder / f"model_{target.checkpoint}_best.pth")


def _weights(target: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed_of("benchmark", target))
    tensors = {}
    widths = (FEATURES, *HIDDEN["small"], 1)
    for key, (inputs, outputs) in zip(layer_keys(len(HIDDEN["small"])), pairwise(widths), strict=True):
        bound = inputs**-0.5
        for name, shape in (("weight", (outputs, inputs)), ("bias", (outputs,))):
            tensors[f"{key}.{name}"] = torch.empty(shape).uniform_(-bound, bound, generator=generator)
    return tensors


def one_by_one(folder: Path, experts: int) -> list[FullEmbeddingMLP]:
    """The modules of the first so many files, in float32."""
    modules = []
    for target in EMOTIONS.targets[:experts]:
        with torch.device("meta"):
            module = FullEmbeddingMLP()
        module.load_state_dict(
            torch.load(folder / f"model_{target.checkpoint}_best.pth", weights_only=True), assign=True
        )
        modules.append(module.eval())
    return modules


def call_each(modules: Sequence[nn.Module], states: Tensor) -> Tensor:
    """Scores as public scripts get them: module by module, clip by clip out of the tensor."""
    columns = [[score.item() for score in module(states)[:, 0]] for module in modules]
    return torch.tensor(columns).T


def measure_forward(
    modules: Sequence[nn.Module], banks: Mapping[str, nn.Module], states: Tensor, *, repeats: int
) -> Forward:
    """Time all contestants in turn.

    Args:
        modules: of the peer.
        banks: name -> `bank(features)`.
        states: float16, shape (32, 1500, 768).
        repeats: rounds.
    """
    seconds: dict[tuple[str, int], float] = {}
    errors: dict[str, float] = {}
    with torch.inference_mode():
        for clips in BATCHES:
            some = states[:clips]
            wide = some.float()
            features = Features(some.flatten(1), torch.full((clips,), some.shape[1]))
            calls: dict[str, Callable[[], object]] = {"one by one": partial(call_each, modules, wide)}
            calls |= {name: partial(bank, features) for name, bank in banks.items()}
            taken = interleaved_seconds(calls, repeats=repeats)
            seconds |= {(name, clips): statistics.median(runs) for name, runs in taken.items()}
        exact = call_each(modules, states.float())
        for name, bank in banks.items():
            scores = bank(Features(states.flatten(1), torch.full((len(states),), states.shape[1])))
            errors[name] = float((scores - exact).abs().max() / exact.std(0).mean())
    sizes = {name: _bytes([bank]) for name, bank in banks.items()}
    return Forward(seconds, errors, sizes | {"one by one": _bytes(modules)})


def compact(folder: Path, precision: Rounded) -> QuantizedBank:
    """All experts of a folder in one bank, read one after the other."""
    experts = open_published(folder).experts
    spec = InputSpec("flatten", "all", FRAMES, WIDTH)
    bank = QuantizedBank(spec, [expert.target.id for expert in experts], HIDDEN["small"], precision)
    for position, expert in enumerate(experts):
        bank.load_expert(position, expert.tensors())
    return bank


def run_forward(folder: Path, experts: int, rounds: int) -> Forward:
    """Write the files of so many experts, load them in each way, and time their forward passes."""
    write_published(folder, experts)
    banks: dict[str, nn.Module] = {name: compact(folder, name) for name in PRECISIONS}
    states = torch.randn(max(BATCHES), FRAMES, WIDTH, generator=torch.Generator().manual_seed(0)).half()
    try:
        return measure_forward(one_by_one(folder, experts), banks, states, repeats=rounds)
    finally:
        shutil.rmtree(folder)


def _bytes(modules: Sequence[nn.Module]) -> int:
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
