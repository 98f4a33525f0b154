from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from emonet.errors import RequestError
from emonet.training import PrincipalBasis, decompose, rotate

pytestmark = pytest.mark.numeric

FEATURES = 300


def states(clips: int, features: int = FEATURES, seed: int = 0) -> Tensor:
    """Correlated features, so that energies differ; centred."""
    random = torch.Generator().manual_seed(seed)
    mixed = torch.randn(clips, features, generator=random) @ torch.randn(features, features, generator=random)
    mixed = mixed * torch.linspace(1, 0.05, features)
    return mixed - mixed.mean(0)


def basis_of(clips: Tensor) -> PrincipalBasis:
    coefficients, energies = decompose((clips.double() @ clips.double().T).float())
    features = clips.shape[1]
    return PrincipalBasis(
        torch.zeros(features), torch.ones(features), coefficients.float(), energies.float(),
        float(clips.double().square().sum()), len(clips),
    )  # fmt: skip


def coordinates_of(basis: PrincipalBasis, clips: Tensor, x: Tensor) -> Tensor:
    return basis.coordinates((x.double() @ clips.double().T).float())


@given(clips=st.integers(2, 40), features=st.integers(3, 120), seed=st.integers(0, 5))
def test_coordinates_have_the_inner_products_of_the_features(clips: int, features: int, seed: int) -> None:
    x = states(clips, features, seed)
    basis = basis_of(x)
    z = coordinates_of(basis, x, x).double().numpy() * basis.unit
    expected = x.double().numpy() @ x.double().numpy().T
    np.testing.assert_allclose(z @ z.T, expected, atol=1e-4 * np.abs(expected).max())
    assert basis.rank <= min(clips - 1, features)
    assert basis.energy_share == pytest.approx(1, abs=1e-4)


def test_energies_descend_and_are_those_of_the_coordinates() -> None:
    x = states(30)
    basis = basis_of(x)
    z = coordinates_of(basis, x, x).double() * basis.unit
    torch.testing.assert_close(z.square().sum(0).float(), basis.energies, rtol=1e-3, atol=0)
    assert bool((basis.energies.diff() <= 0).all())
    assert basis.rank == 29  # centring takes one
    assert basis.unit == pytest.approx(float(z.square().mean().sqrt()), rel=1e-4)


@pytest.mark.parametrize("rank", [1, 7, 29, "all", 0.5, 0.9])
def test_a_truncation_is_a_prefix_in_a_unit_of_its_own(rank: int) -> None:
    x = states(30)
    basis = basis_of(x)
    whole, part = coordinates_of(basis, x, x), basis.truncated(rank)
    found = coordinates_of(part, x, x)
    assert part.rank == basis.kept(rank) == found.shape[1]
    torch.testing.assert_close(found * part.unit, whole[:, : part.rank] * basis.unit, rtol=1e-4, atol=1e-3)
    assert float(found.square().mean()) == pytest.approx(1, rel=1e-4)


def test_a_share_of_the_energy_takes_the_fewest_coordinates_that_hold_it() -> None:
    basis = basis_of(states(30))
    for share in (0.1, 0.5, 0.99):
        kept = basis.kept(share)
        held = basis.energies.double().cumsum(0) / basis.total_energy
        assert float(held[kept - 1]) >= share
        assert kept == 1 or float(held[kept - 2]) < share
    assert basis.kept(0.9999999) == basis.rank


@pytest.mark.parametrize("rank", [0, -1, 30])
def test_more_coordinates_than_there_are(rank: int) -> None:
    with pytest.raises(RequestError, match=rf"(?s)not so many.*1 to 29, of 30 basis clips.*found: *{rank}"):
        basis_of(states(30)).kept(rank)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5])
def test_no_share_of_the_energy(share: float) -> None:
    with pytest.raises(RequestError, match=r"(?s)no share of the energy.*more than 0, less than 1"):
        basis_of(states(30)).kept(share)


def test_a_share_that_a_part_of_the_span_does_not_hold() -> None:
    basis = basis_of(states(30)).truncated(10)
    with pytest.raises(
        RequestError, match=rf"(?s)do not hold so much.*up to {basis.energy_share:.4f}, by all 10.*0.999"
    ):
        basis.kept(0.999)


def test_clips_that_are_all_the_same() -> None:
    with pytest.raises(RequestError, match="all the same"):
        decompose(torch.zeros(5, 5))


def test_clips_that_occur_twice_add_no_coordinates() -> None:
    x = states(20)
    basis = basis_of(torch.cat([x, x]))
    assert basis.rank == 19
    assert torch.isfinite(basis.coefficients).all()


def test_the_same_directions_each_time() -> None:
    x = states(30)
    first, again = basis_of(x), basis_of(x)
    assert torch.equal(first.coefficients, again.coefficients)
    assert bool((first.coefficients.gather(0, first.coefficients.abs().argmax(0, keepdim=True)) > 0).all())


def test_weights_on_coordinates_are_weights_on_features() -> None:
    x, new = states(30), states(5, seed=1)
    basis = basis_of(x).truncated(12)
    weights = torch.randn(4, 12, generator=torch.Generator().manual_seed(0))
    lifted = basis.combination(weights) @ x
    for clips in (x, new):
        torch.testing.assert_close(clips @ lifted.T, coordinates_of(basis, x, clips) @ weights.T, rtol=1e-3, atol=1e-3)


def trained(x: Tensor, start: Tensor, scores: Tensor, rate: float) -> nn.Linear:
    """A linear layer after 200 steps of gradient descent with momentum on the squared error."""
    layer = nn.Linear(x.shape[1], 1).double()
    with torch.no_grad():
        layer.weight.copy_(start)
        layer.bias.zero_()
    optimiser = torch.optim.SGD(layer.parameters(), lr=rate, momentum=0.5)
    for step in range(200):
        batch = torch.arange(10) + 10 * (step % 3)
        optimiser.zero_grad()
        (layer(x[batch])[:, 0] - scores[batch]).square().mean().backward()
        optimiser.step()
    return layer


def test_training_in_coordinates_is_training_in_features() -> None:
    """Turning the axes changes neither gradients nor steps, and outside the span of the clips nothing is learned."""
    x, new = states(30), states(5, seed=1)
    x, new = x / x.std(), new / x.std()
    basis = basis_of(x)
    z, z_new = (coordinates_of(basis, x, clips).double() * basis.unit for clips in (x, new))
    random = torch.Generator().manual_seed(0)
    start, scores = torch.randn(1, basis.rank, generator=random).double(), torch.randn(30, generator=random).double()
    features = trained(x.double(), (basis.combination(start).double() * basis.unit) @ x.double(), scores, 1e-4)
    coordinates = trained(z, start, scores, 1e-4)
    assert float((coordinates.weight.detach() - start).abs().max()) > 1e-3  # something was learned
    torch.testing.assert_close(coordinates(z), features(x.double()), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(coordinates(z_new), features(new.double()), rtol=1e-3, atol=1e-3)


def test_all_clips_as_landmarks_are_the_exact_coordinates() -> None:
    x = states(30)
    basis = basis_of(x)
    z = coordinates_of(basis, x, x) * basis.unit
    coefficients, energies = rotate(basis.coefficients.double(), z.double().T @ z.double())
    torch.testing.assert_close(energies.float(), basis.energies, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(coefficients.float().abs(), basis.coefficients.abs(), rtol=0.02, atol=1e-5)


def test_after_the_turn_the_first_landmark_coordinates_hold_the_most() -> None:
    x = states(60)
    landmarks = x[::3]
    coefficients, _ = decompose(landmarks @ landmarks.T)
    before = (x @ landmarks.T).double() @ coefficients
    turned, energies = rotate(coefficients, before.T @ before)
    after = (x @ landmarks.T).double() @ turned
    covariance = after.T @ after
    assert float((covariance - covariance.diagonal().diag()).abs().max()) < 1e-6 * float(covariance.max())
    torch.testing.assert_close(covariance.diagonal(), energies, rtol=1e-6, atol=1e-6)
    held = [part.square().sum(0).cumsum(0) for part in (before, after)]
    assert bool((held[1] >= held[0] - 1e-6 * held[0]).all())
    assert float(energies.sum()) < float(x.double().square().sum())
