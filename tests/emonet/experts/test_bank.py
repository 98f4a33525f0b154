from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from emonet.configs import HIDDEN, InputForm, Preset
from emonet.experts import ExpertBank, Features, InputSpec, ScalingMeter, layer_keys
from emonet.targets import Target

pytestmark = pytest.mark.numeric

FRAMES, WIDTH = 10, 6
TARGETS = ("anger", "fear", "awe")


class FullEmbeddingMLP(nn.Module):
    """The published expert, written down plainly."""

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        first, *others = widths
        self.proj = nn.Linear(inputs, first)
        pairs = pairwise((first, *others, 1))
        shares = (0.0, *[0.1] * len(others))
        self.mlp = nn.Sequential(
            *(
                module
                for share, pair in zip(shares, pairs, strict=True)
                for module in (nn.ReLU(), nn.Dropout(share), nn.Linear(*pair))
            )
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mlp(self.proj(x.flatten(1)))


def some_states(clips: int = 8, seed: int = 0) -> torch.Tensor:
    scale = torch.logspace(-1, 1, WIDTH)
    return torch.randn(clips, FRAMES, WIDTH, generator=torch.Generator().manual_seed(seed)) * scale + 5 * scale


def features_of(spec: InputSpec, states: torch.Tensor) -> Features:
    return spec.prepare(states, torch.arange(len(states)) % FRAMES + 1)


@pytest.mark.parametrize("widths", [(64, 64, 32, 16), (128, 128, 64, 32), (8,)])
def test_each_expert_is_the_published_one(widths: tuple[int, ...]) -> None:
    spec = InputSpec("flatten", "all", FRAMES, WIDTH)
    bank = ExpertBank(spec, TARGETS, widths).eval()
    states = some_states()
    scores = bank(features_of(spec, states))
    scores.square().sum().backward()
    for position in range(len(TARGETS)):
        expert = FullEmbeddingMLP(FRAMES * WIDTH, widths).eval()
        tensors = dict(bank.tensors(position))
        assert {key: t.shape for key, t in tensors.items()} == {k: t.shape for k, t in expert.state_dict().items()}
        expert.load_state_dict(tensors)
        expected = expert(states)
        torch.testing.assert_close(scores[:, position], expected[:, 0], rtol=1e-5, atol=1e-5)
        expected.square().sum().backward()
        for layer, name in zip(bank.layers, layer_keys(len(widths)), strict=True):
            plain = expert.get_submodule(name)
            torch.testing.assert_close(layer.weight.grad[position], plain.weight.grad, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(layer.bias.grad[position], plain.bias.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("preset", "parameters"), [("small", 73_734_849), ("large", 147_483_009)])
def test_published_sizes(preset: Preset, parameters: int) -> None:
    with torch.device("meta"):
        bank = ExpertBank(InputSpec("flatten", "all", 1500, 768), ["anger"], HIDDEN[preset], seed=None)
    assert sum(parameter.numel() for parameter in bank.parameters()) == parameters


def test_layers_have_their_published_names() -> None:
    assert layer_keys(4) == ("proj", "mlp.2", "mlp.5", "mlp.8", "mlp.11")


def test_further_layers_have_the_last_dropout() -> None:
    bank = ExpertBank(InputSpec("statistics", "all", FRAMES, WIDTH), TARGETS, (8, 8, 8), dropout=(0.0, 0.2))
    assert bank.dropout.shares == (0.0, 0.2, 0.2)


def test_outputs_are_not_clamped() -> None:
    spec = InputSpec("statistics", "all", FRAMES, WIDTH)
    bank = ExpertBank(spec, TARGETS, HIDDEN["small"]).eval()
    with torch.no_grad():
        bank.layers[-1].bias.copy_(torch.tensor([[-7.0], [0.0], [9.0]]))
    scores = bank(features_of(spec, some_states() * 0.01))
    assert (scores[:, 0] < 0).all()
    assert (scores[:, 2] > 4).all()


def test_the_start_does_not_depend_on_the_threads_that_draw_it() -> None:
    spec, threads = InputSpec("flatten", "all", FRAMES, WIDTH), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = ExpertBank(spec, TARGETS, HIDDEN["small"], seed=3)
        torch.set_num_threads(3)
        together = ExpertBank(spec, TARGETS, HIDDEN["small"], seed=3)
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, alone.state_dict().values(), together.state_dict().values()))


@pytest.mark.parametrize("form", ["flatten", "statistics", "moments", "attention"])
def test_the_start_does_not_depend_on_company(form: InputForm) -> None:
    spec = InputSpec(form, "all", FRAMES, WIDTH)
    alone = ExpertBank(spec, ["fear"], HIDDEN["small"], seed=3)
    among = ExpertBank(spec, TARGETS, HIDDEN["small"], seed=3)
    other_seed = ExpertBank(spec, ["fear"], HIDDEN["small"], seed=4)
    for (_, mine), (_, theirs) in zip(alone.tensors(0), among.tensors(1), strict=True):
        assert torch.equal(mine, theirs)
    assert not torch.equal(dict(alone.tensors(0))["proj.weight"], dict(other_seed.tensors(0))["proj.weight"])


def test_the_start_is_spread_like_linears() -> None:
    spec = InputSpec("flatten", "all", FRAMES, WIDTH)
    weight = dict(ExpertBank(spec, ["fear"], HIDDEN["small"]).tensors(0))["proj.weight"]
    bound = (FRAMES * WIDTH) ** -0.5
    assert float(weight.abs().max()) == pytest.approx(bound, rel=0.01)
    assert float(weight.std()) == pytest.approx(bound / 3**0.5, rel=0.05)


@pytest.mark.parametrize("form", ["flatten", "statistics", "attention"])
def test_folded_equals_unfolded(form: InputForm) -> None:
    spec = InputSpec(form, "speech", FRAMES, WIDTH)
    states = some_states(40)
    features = features_of(spec, states)
    meter = ScalingMeter(spec)
    for start in range(0, 40, 7):
        meter.update(features.rows(torch.arange(start, min(start + 7, 40))))
    bank = ExpertBank(spec, TARGETS, HIDDEN["small"]).eval()
    if bank.query is not None:
        nn.init.normal_(bank.query, generator=torch.Generator().manual_seed(1))
    bank.standardise(meter.scaling())
    bank.score_on([Target(name, name, -1, 1 + place, "") for place, name in enumerate(TARGETS)])
    with torch.inference_mode():
        before = bank(features)
        bank.fold()
        after = bank(features)
    assert bank.shift is bank.unit is None
    # Folded, weights are multiplied before they are summed, and the shift is taken off their sum: 2^-24 times 5 deviations.
    assert float((before - after).abs().max() / before.abs().max()) < 1e-4
    bank.fold()  # nothing is left to fold
    assert torch.equal(bank(features), after)


def mixed_bank(*, layers: int = 3, targets: tuple[str, ...] = TARGETS) -> ExpertBank:
    spec = InputSpec("statistics", "all", FRAMES, layers * WIDTH, layers=layers)
    return ExpertBank(spec, targets, HIDDEN["small"], dropout=(0.0,), mixed=True)


def test_folded_layer_mix_scores_as_before() -> None:
    bank = mixed_bank().eval()
    states = torch.cat([some_states(40, seed) for seed in range(3)], 2)
    features = features_of(bank.spec, states)
    meter = ScalingMeter(bank.spec)
    meter.update(features)
    bank.standardise(meter.scaling())
    assert bank.mix is not None
    nn.init.normal_(bank.mix.logits, generator=torch.Generator().manual_seed(1))
    assert bank.first.weight.shape == (3, 64, 4 * WIDTH)
    some = bank.narrowed([2, 0])
    with torch.inference_mode():
        before = bank(features)
        torch.testing.assert_close(some(features), before[:, [2, 0]])
        bank.fold()
        after = bank(features)
    assert float((before - after).abs().max() / before.abs().max()) < 1e-4
    plain = ExpertBank(bank.spec, TARGETS, HIDDEN["small"], seed=None)  # what files are read into
    assert {key: t.shape for key, t in bank.tensors(0)} == {key: t.shape for key, t in plain.tensors(0)}


def test_layer_mix_is_the_weighted_mean_of_each_statistic() -> None:
    bank = mixed_bank()
    assert bank.mix is not None
    nn.init.normal_(bank.mix.logits, generator=torch.Generator().manual_seed(1))
    values = torch.randn(5, 4, 3, WIDTH, generator=torch.Generator().manual_seed(2))
    shares = bank.mix.logits.softmax(1)
    expected = sum(shares[:, layer].view(-1, 1, 1) * values[:, :, layer].flatten(1) for layer in range(3))
    torch.testing.assert_close(bank.mix(values.flatten(1)), expected)


def test_the_gradient_reaches_the_layer_mix_of_each_expert() -> None:
    bank = mixed_bank()
    features = features_of(bank.spec, torch.cat([some_states(16, seed) for seed in range(3)], 2))
    bank(features)[:, 1].square().sum().backward()
    assert bank.mix is not None
    assert bank.mix.logits.grad is not None
    reached = bank.mix.logits.grad.abs().sum(1) > 0
    assert reached.tolist() == [False, True, False]


def test_layers_are_mixed_of_statistics_only() -> None:
    with pytest.raises(ValueError, match="layers can be mixed of statistics, not of flatten"):
        ExpertBank(InputSpec("flatten", "all", FRAMES, WIDTH), TARGETS, (8,), mixed=True)


@pytest.mark.slow
def test_attention_learns_where_to_listen() -> None:
    """One frame in each clip carries the score; only attention's queries can single it out."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(256, FRAMES, WIDTH, generator=generator)
    states[:, :, 0] = -1
    marked = torch.randint(0, FRAMES, (256,), generator=generator)
    states[torch.arange(256), marked, 0] = 1
    scores = states[torch.arange(256), marked, 1:2]
    spec = InputSpec("attention", "all", FRAMES, WIDTH)
    bank = ExpertBank(spec, ["fear"], HIDDEN["small"], dropout=(0.0, 0.0, 0.0, 0.0))
    features = spec.prepare(states, torch.full((256,), FRAMES))
    optimiser = torch.optim.AdamW(bank.parameters(), lr=1e-2)
    for _ in range(200):
        optimiser.zero_grad()
        loss = (bank(features) - scores).abs().mean()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.25  # 0.8 for the constant
