from __future__ import annotations

import numpy as np
import pytest
import torch

from emonet.experts import InputSpec
from emonet.experts.inputs import statistics, uniform_views
from emonet.experts.pooling import attentive_views

pytestmark = pytest.mark.numeric

FRAMES, WIDTH = 12, 5


@pytest.fixture
def states() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(3, 2, (4, FRAMES, WIDTH)).astype(np.float16))


LENGTHS = torch.tensor([12, 7, 2, 1])


def test_flatten_is_all_states_in_order(states: torch.Tensor) -> None:
    spec = InputSpec("flatten", "speech", FRAMES, WIDTH)
    features = spec.prepare(states, LENGTHS)
    assert spec.features == FRAMES * WIDTH
    assert torch.equal(features.values, states.reshape(4, -1))
    assert features.lengths.tolist() == [FRAMES] * 4


@pytest.mark.parametrize("pool_over", ["all", "speech"])
def test_statistics_are_numpys(states: torch.Tensor, pool_over: str) -> None:
    spec = InputSpec("statistics", pool_over, FRAMES, WIDTH)
    values = spec.prepare(states, LENGTHS).values.numpy()
    assert values.dtype == np.float32
    assert values.shape == (4, spec.features) == (4, 4 * WIDTH)
    for row, length in enumerate(LENGTHS.tolist()):
        heard = states[row, : length if pool_over == "speech" else FRAMES].float().numpy()
        deviation = heard.std(0, ddof=1) if len(heard) > 1 else np.zeros(WIDTH)
        expected = np.concatenate([heard.mean(0), heard.min(0), heard.max(0), deviation])
        np.testing.assert_allclose(values[row], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pooled", [False, True])
def test_moments_are_the_mean_and_the_deviation_of_statistics(states: torch.Tensor, pooled: bool) -> None:
    every, spec = (InputSpec(form, "speech", FRAMES, WIDTH) for form in ("statistics", "moments"))
    made = every.prepare(states, LENGTHS).values
    given = made.view(4, 4, WIDTH) if pooled else states
    values = spec.prepare(given, LENGTHS, pooled=pooled).values
    assert values.shape == (4, spec.features) == (4, 2 * WIDTH)
    assert torch.equal(values, made[:, [*range(WIDTH), *range(3 * WIDTH, 4 * WIDTH)]])
    assert spec.bytes_per_clip == values[0].nbytes


@pytest.mark.parametrize("form", ["statistics", "attention"])
def test_what_follows_the_speech_does_not_matter(states: torch.Tensor, form: str) -> None:
    spec = InputSpec(form, "speech", FRAMES, WIDTH)
    other = states.clone()
    for row, length in enumerate(LENGTHS.tolist()):
        other[row, length:] = 1000
    query = torch.randn(2, spec.queries, WIDTH, generator=torch.Generator().manual_seed(0))

    def seen(raw: torch.Tensor) -> torch.Tensor:
        features = spec.prepare(raw, LENGTHS)
        return features.values if form == "statistics" else attentive_views(features.values, features.lengths, query)

    assert torch.equal(seen(states), seen(other))


def test_attention_without_queries_learned_is_plain_mean_and_deviation(states: torch.Tensor) -> None:
    spec = InputSpec("attention", "speech", FRAMES, WIDTH, queries=3)
    features = spec.prepare(states, LENGTHS)
    views = attentive_views(features.values, features.lengths, torch.zeros(2, 3, WIDTH))
    assert views.shape == (2, 4, spec.features)
    torch.testing.assert_close(views[1], spec.summary(features))
    torch.testing.assert_close(uniform_views(states, LENGTHS)[1, :WIDTH], states[1, :7].float().mean(0))


def test_attention_is_a_weighted_mean_and_deviation(states: torch.Tensor) -> None:
    query = torch.randn(1, 1, WIDTH, generator=torch.Generator().manual_seed(1))
    view = attentive_views(states, LENGTHS, query)[0, 1]
    heard = states[1, :7].double()
    weights = (heard @ query[0, 0].double()).softmax(0)
    mean = weights @ heard
    deviation = (weights @ (heard - mean).square() + 1e-6).sqrt()
    torch.testing.assert_close(view.double(), torch.cat((mean, deviation)), rtol=1e-4, atol=1e-4)


def test_the_deviation_survives_a_large_offset() -> None:
    noise = torch.randn(1, 400, 3, generator=torch.Generator().manual_seed(0))
    query = torch.zeros(1, 1, 3)
    near = attentive_views(noise, torch.tensor([400]), query)[..., 3:]
    far = attentive_views(noise + 1000, torch.tensor([400]), query)[..., 3:]
    torch.testing.assert_close(near, far, rtol=1e-3, atol=0)


def test_the_gradient_is_finite_where_states_agree() -> None:
    query = torch.zeros(1, 2, WIDTH, requires_grad=True)
    attentive_views(torch.ones(2, FRAMES, WIDTH), torch.tensor([1, FRAMES]), query).sum().backward()
    assert query.grad is not None
    assert torch.isfinite(query.grad).all()


def test_states_of_another_shape_are_refused(states: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"states of \(12, 5\), expected \(13, 5\)"):
        InputSpec("flatten", "all", 13, WIDTH).prepare(states, LENGTHS)


def test_statistics_of_states_are_pooled_in_float32() -> None:
    states = torch.full((1, 1500, 1), 100.0, dtype=torch.float16)  # a float16 sum would overflow
    assert statistics(states, torch.tensor([1500])).tolist() == [[100.0, 100.0, 100.0, 0.0]]
