from __future__ import annotations

import pytest
import torch

from emonet.training import rounding_kernel
from emonet.training import stochastic_rounding as rounding
from emonet.training.rounding_kernel import stochastic_bf16
from emonet.training.stochastic_rounding import RoundedAdamW

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


@pytest.fixture(params=["in chunks", "in one"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How steps are made: as on a processor, or by what GPUs compile, uncompiled."""
    if request.param == "in one":
        monkeypatch.setattr(rounding, "kernel_for", lambda weights: rounding_kernel.update)
    return str(request.param)


def moved(weights: torch.Tensor, gradient: torch.Tensor, *, steps: int = 1, seed: int = 0, **changes: float) -> None:
    optimiser = RoundedAdamW(weights, **{"learning_rate": 1e-4, "weight_decay": 0.0, **changes}, seed=seed)
    for _ in range(steps):
        optimiser.step(gradient)


@pytest.mark.usefixtures("way")
def test_an_update_below_half_a_unit_moves_weights_on_average(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit in the last place is 0.0078 at 1; 20 steps of 1e-4 would all be lost by rounding to nearest."""
    monkeypatch.setattr(rounding, "CACHED", COUNT // 8)
    weights = torch.ones(COUNT, dtype=torch.bfloat16)
    moved(weights, torch.full((COUNT,), 0.5), steps=20)
    mean = weights.double().mean(), weights.double().var() / COUNT
    assert abs(float(mean[0]) - (1 - 20e-4)) < 4 * float(mean[1]) ** 0.5 + 2e-5  # the moments' own rounding


@pytest.mark.usefixtures("way")
def test_weight_decay_below_half_a_unit_counts() -> None:
    weights = torch.full((COUNT,), 1.5, dtype=torch.bfloat16)
    moved(weights, torch.zeros(COUNT), steps=10, weight_decay=1.0)
    expected = 1.5 * (1 - 1e-4) ** 10
    assert float(weights.double().mean()) == pytest.approx(expected, abs=1e-4)


@pytest.mark.usefixtures("way")
def test_the_second_moment_follows_the_gradient() -> None:
    optimiser = RoundedAdamW(torch.zeros(COUNT, dtype=torch.bfloat16), learning_rate=0.0, weight_decay=0.0, seed=0)
    for _ in range(300):
        optimiser.step(torch.full((COUNT,), 2.0))
    assert float(optimiser._square.double().mean()) == pytest.approx(4 * (1 - 0.999**300), rel=2e-3)


@pytest.mark.usefixtures("way")
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


@pytest.mark.usefixtures("way")
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


def test_the_kernel_rounds_by_place_and_keys_alone() -> None:
    keys = rounding_kernel.arguments((7, -9), kept=1.0, rate=1e-3, second=1.0)
    few, many = (torch.ones(count, dtype=torch.bfloat16) for count in (1000, COUNT))
    for weights in (few, many):
        moments = torch.zeros_like(weights), torch.zeros_like(weights)
        rounding_kernel.update(weights, *moments, torch.ones(len(weights)), *keys)
    assert torch.equal(few, many[:1000])


def test_the_kernels_numbers_are_related_neither_to_each_other_nor_from_step_to_step() -> None:
    def bits(*keys: int) -> list[torch.Tensor]:
        places = torch.arange(COUNT, dtype=torch.int32)
        first = rounding_kernel._hashed(rounding_kernel._hashed(places + keys[0]) ^ keys[1])
        other = rounding_kernel._hashed(first + rounding_kernel._APART)
        return [each & 0xFFFF for each in (first, first >> 16, other)]

    found = torch.stack([*bits(0, 0), *bits(1, 0), *bits(0, 1), *bits(-5, 12345)]).double()
    found = torch.cat([found, found[:3].roll(1, 1)])
    assert (found.mean(1) - (2**16 - 1) / 2).abs().max() < 5 * 2**16 / (12 * COUNT) ** 0.5
    # Each step has a permutation of places: shifted by one, the first key gives the numbers of the neighbours.
    correlation = torch.corrcoef(found).fill_diagonal_(0)[:3, 6:]
    assert float(correlation.abs().max()) < 5 / COUNT**0.5


def test_what_cannot_be_compiled_is_told_once_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounding_kernel, "_reasons", [])
    weights = torch.tensor([0.3, -0.0, 1.5, torch.inf]).bfloat16()
    before = weights.clone()
    assert rounding_kernel.tried(lambda: rounding_kernel.update, weights) is rounding_kernel.update
    assert torch.equal(weights, before)

    def refuse(*_: object) -> None:
        raise RuntimeError("Failed to find C compiler.\nPlease specify one")

    with pytest.warns(UserWarning, match=r"slower here.*RuntimeError: Failed to find C compiler\.$"):
        assert rounding_kernel.tried(lambda: refuse, weights) is None
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    assert rounding_kernel.kernel_for(weights) is None, "it is not tried again"


def test_a_sweep_over_widths_compiles_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounding_kernel, "_sizes", set())
    monkeypatch.setattr(rounding_kernel, "_compiled", lambda: rounding_kernel.update)
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    sizes = [*range(1, rounding_kernel.MOST_SIZES + 3), 1]
    kernels = [rounding_kernel.kernel_for(torch.ones(size, dtype=torch.bfloat16)) for size in sizes]
    assert [kernel is None for kernel in kernels] == [size > rounding_kernel.MOST_SIZES for size in sizes]


def test_what_gpus_compile_can_be_compiled() -> None:
    """In one piece, whatever checks shapes in tests; the numbers are those of a GPU's test."""
    compiled = torch.compile(rounding_kernel.update, dynamic=False, fullgraph=True, backend="aot_eager")
    weights = torch.randn(1000, generator=torch.Generator().manual_seed(0)).bfloat16()
    plain = weights.clone()
    assert rounding_kernel.tried(lambda: compiled, weights) is compiled
    for kernel, some in ((compiled, weights), (rounding_kernel.update, plain)):
        keys = rounding_kernel.arguments((3, 4), kept=0.9, rate=1e-2, second=0.1)
        kernel(some, torch.zeros_like(some), torch.zeros_like(some), torch.ones(1000), *keys)
    assert torch.equal(weights, plain)


@pytest.mark.gpu
def test_a_gpu_moves_weights_as_uncompiled() -> None:
    start, slope = torch.randn(2, COUNT, generator=torch.Generator().manual_seed(0))
    results = []
    for device in ("cpu", "cuda"):
        weights = start.bfloat16().to(device)
        optimiser = RoundedAdamW(weights, learning_rate=1e-3, weight_decay=0.1, seed=3)
        assert (optimiser._kernel is None) == (device == "cpu")
        if device == "cpu":
            optimiser._kernel = rounding_kernel.update
        for _ in range(5):
            optimiser.step(slope.to(device))
        results.append(weights.cpu())
    same = (results[0] == results[1]).double().mean()
    assert float(same) > 0.99, "but for sums in other orders, which few numbers round otherwise"
