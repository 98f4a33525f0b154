from __future__ import annotations

import pytest
import torch

from emonet.training import stochastic_rounding as rounding
from emonet.training.stochastic_rounding import RoundedAdamW, stochastic_bf16

pytestmark = pytest.mark.numeric

COUNT = 1 << 18


def some_bits(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 1 << 16, (count,), dtype=torch.int32, generator=torch.Generator().manual_seed(seed))


def neighbours(value: float) -> tuple[float, float]:
    """The bf16 values around one that is none of them, towards and away from 0."""
    bits = torch.tensor(value).view(torch.int32) & ~0xFFFF
    return bits.view(torch.float32).item(), (bits + (1 << 16)).view(torch.float32).item()


@pytest.mark.parametrize("value", [1.001, -1.001, 0.3, 3e-5, -1.9999, 7e37, 1e-38])
def test_the_mean_of_many_roundings_is_the_value(value: float) -> None:
    value = torch.tensor(value).item()
    rounded = stochastic_bf16(torch.full((COUNT,), value), some_bits(COUNT)).double()
    low, high = neighbours(value)
    assert set(rounded.unique().tolist()) == {low, high}
    share = (value - low) / (high - low)
    error = abs(high - low) * (share * (1 - share) / COUNT) ** 0.5
    assert abs(float(rounded.mean()) - value) < 4 * error


def test_every_bit_pattern_together_gives_the_exact_mean() -> None:
    value = 0.7123
    rounded = stochastic_bf16(torch.full((1 << 16,), value), torch.arange(1 << 16, dtype=torch.int32))
    assert float(rounded.double().mean()) == torch.tensor(value).item()


def test_what_bf16_holds_stays_as_it_is() -> None:
    values = torch.tensor([0.0, -0.0, 1.0, -2.5, torch.inf, -torch.inf, torch.nan]).repeat(100)
    rounded = stochastic_bf16(values, some_bits(len(values))).float()
    torch.testing.assert_close(rounded, values, rtol=0, atol=0, equal_nan=True)


def moved(weights: torch.Tensor, gradient: torch.Tensor, *, steps: int = 1, seed: int = 0, **changes: float) -> None:
    optimiser = RoundedAdamW(weights, **{"learning_rate": 1e-4, "weight_decay": 0.0, **changes}, seed=seed)
    for _ in range(steps):
        optimiser.step(gradient)


def test_an_update_below_half_a_unit_moves_weights_on_average(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit in the last place is 0.0078 at 1; 20 steps of 1e-4 would all be lost by rounding to nearest."""
    monkeypatch.setattr(rounding, "CACHED", COUNT // 8)
    weights = torch.ones(COUNT, dtype=torch.bfloat16)
    moved(weights, torch.full((COUNT,), 0.5), steps=20)
    mean = weights.double().mean(), weights.double().var() / COUNT
    assert abs(float(mean[0]) - (1 - 20e-4)) < 4 * float(mean[1]) ** 0.5 + 2e-5  # the moments' own rounding


def test_weight_decay_below_half_a_unit_counts() -> None:
    weights = torch.full((COUNT,), 1.5, dtype=torch.bfloat16)
    moved(weights, torch.zeros(COUNT), steps=10, weight_decay=1.0)
    expected = 1.5 * (1 - 1e-4) ** 10
    assert float(weights.double().mean()) == pytest.approx(expected, abs=1e-4)


def test_the_second_moment_follows_the_gradient() -> None:
    optimiser = RoundedAdamW(torch.zeros(COUNT, dtype=torch.bfloat16), learning_rate=0.0, weight_decay=0.0, seed=0)
    for _ in range(300):
        optimiser.step(torch.full((COUNT,), 2.0))
    assert float(optimiser._square.double().mean()) == pytest.approx(4 * (1 - 0.999**300), rel=2e-3)


def test_it_follows_adamw() -> None:
    """Of many equal weights the mean moves as torch's single one."""
    weights, single = torch.full((COUNT,), 0.25, dtype=torch.bfloat16), torch.nn.Parameter(torch.tensor([0.25]))
    optimiser = RoundedAdamW(weights, learning_rate=1e-2, weight_decay=0.1, seed=0)
    peer = torch.optim.AdamW([single], lr=1e-2, weight_decay=0.1)
    for step in range(20):
        slope = 0.3 * (-0.7) ** step + 0.1
        single.grad = torch.tensor([slope])
        peer.step()
        optimiser.step(torch.full((COUNT,), slope))
    assert float(weights.double().mean()) == pytest.approx(single.item(), rel=2e-3)


def test_the_same_seed_rounds_alike() -> None:
    results = []
    for seed in (1, 1, 2):
        weights = torch.ones(1000, dtype=torch.bfloat16)
        moved(weights, torch.ones(1000), steps=3, seed=seed)
        results.append(weights)
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_chunks_round_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """One draw serves all chunks; what they make of it must not be the same, nor related."""
    size = 1 << 12
    monkeypatch.setattr(rounding, "CACHED", size)
    weights = torch.ones(300 * size, dtype=torch.bfloat16)
    moved(weights, torch.ones(300 * size), learning_rate=1e-3)
    up = (weights.view(300, size) != 1).double()
    assert len({tuple(row.tolist()) for row in up}) == 300
    correlation = torch.corrcoef(up)
    correlation.fill_diagonal_(0)
    assert float(correlation.square().mean()) == pytest.approx(1 / size, rel=0.5)
