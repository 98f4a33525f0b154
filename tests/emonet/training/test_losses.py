from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emonet.configs import Loss
from emonet.training import absolute_errors, expert_losses

pytestmark = pytest.mark.numeric

NAN = float("nan")
LOSSES: tuple[Loss, ...] = get_args(Loss)


def oracle(predictions: np.ndarray, scores: np.ndarray, weights: np.ndarray, loss: Loss) -> float:
    """One expert's loss, written down plainly."""
    known = ~np.isnan(scores) & (weights > 0)
    p, s, w = predictions[known], scores[known], weights[known]
    if loss == "ccc":
        if len(p) < 2 or (np.ptp(p) == 0 and np.ptp(s) == 0):
            return 0.0
        mean_p, mean_s = np.average(p, weights=w), np.average(s, weights=w)
        covariance = np.average((p - mean_p) * (s - mean_s), weights=w)
        variances = np.average((p - mean_p) ** 2, weights=w) + np.average((s - mean_s) ** 2, weights=w)
        return 1 - 2 * covariance / (variances + (mean_p - mean_s) ** 2)
    if len(p) == 0:
        return 0.0
    error = np.abs(p - s)
    values = {"mae": error, "mse": error**2, "huber": np.where(error <= 1, error**2 / 2, error - 0.5)}[loss]
    return float((w * values).sum() / len(values))


@st.composite
def batches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions, scores and weights; some alike, some missing, some of weight 0."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    clips = draw(st.integers(1, 12))
    predictions = rng.normal(2, 2, (clips, 4))
    predictions[:, rng.random(4) < 0.2] = 1.1
    scores = rng.integers(0, 5, (clips, 4)) * 0.7
    scores[:, rng.random(4) < 0.3] = 0.7
    scores[rng.random((clips, 4)) < draw(st.sampled_from([0.0, 0.3, 0.9]))] = np.nan
    weights = rng.choice([0.0, 0.3, 1.0, 2.5], (clips, 4)) if draw(st.booleans()) else np.ones((clips, 4))
    return predictions, scores, weights


@pytest.mark.parametrize("loss", LOSSES)
@given(batch=batches())
def test_each_expert_has_the_loss_that_is_written_down(loss: Loss, batch: tuple[np.ndarray, ...]) -> None:
    predictions, scores, weights = (torch.from_numpy(each) for each in batch)
    predictions.requires_grad_()
    losses = expert_losses(predictions, scores, weights, loss)
    expected = [oracle(*(each[:, expert] for each in batch), loss) for expert in range(4)]
    np.testing.assert_allclose(losses.detach().numpy(), expected, atol=1e-9)
    losses.sum().backward()
    gradient = predictions.grad
    assert gradient is not None
    assert gradient.isfinite().all()
    assert (gradient[scores.isnan() | (weights == 0)] == 0).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_those_of_the_losses(loss: Loss) -> None:
    generator = torch.Generator().manual_seed(0)
    predictions, scores = (torch.randn(7, 3, dtype=torch.float64, generator=generator) * 2 for _ in range(2))
    scores[0, 0] = scores[2:, 1] = NAN
    weights = torch.rand(7, 3, dtype=torch.float64, generator=generator)
    assert torch.autograd.gradcheck(
        lambda each: expert_losses(each, scores, weights, loss), predictions.requires_grad_()
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_an_expert_without_scores_has_no_loss(loss: Loss) -> None:
    predictions = torch.tensor([[1.0, 2.0], [3.0, 5.0]], requires_grad=True)
    scores, weights = torch.tensor([[NAN, 1.0], [NAN, 2.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    losses = expert_losses(predictions, scores, weights, loss)
    losses.sum().backward()
    assert losses.tolist() == [0, 0]
    assert predictions.grad is not None
    assert not predictions.grad.any()


@pytest.mark.parametrize("loss", ["mae", "huber", "mse"])
@given(batch=batches(), weight=st.floats(0.1, 10))
def test_a_score_counts_by_its_weight_whoever_shares_its_batch(
    loss: Loss, batch: tuple[np.ndarray, ...], weight: float
) -> None:
    """Its gradient is its weight times the one that it would have unweighted; alone in a batch, too."""
    values, scores, _ = (torch.from_numpy(each) for each in batch)
    for clips in (slice(None), slice(1)):
        gradients = []
        for factor in (1.0, weight):
            weights = torch.ones_like(scores)
            weights[0] = factor
            predictions = values.clone().requires_grad_()
            expert_losses(predictions[clips], scores[clips], weights[clips], loss).sum().backward()
            assert predictions.grad is not None
            gradients.append(predictions.grad)
        torch.testing.assert_close(gradients[1][0], weight * gradients[0][0])
        assert torch.equal(gradients[1][1:], gradients[0][1:])


@pytest.mark.parametrize("loss", LOSSES)
@given(batch=batches())
def test_a_weight_of_0_is_a_missing_score(loss: Loss, batch: tuple[np.ndarray, ...]) -> None:
    predictions, scores, weights = (torch.from_numpy(each) for each in batch)
    missing = scores.masked_fill(weights == 0, NAN)
    losses = [expert_losses(predictions, each, weights, loss) for each in (scores, missing)]
    assert torch.equal(*losses)


def test_missing_scores_leave_no_trace() -> None:
    scores = torch.tensor([[1.0, NAN, NAN], [3.0, 2.0, NAN]])
    predictions = torch.tensor([[2.0, 9.0, 9.0], [3.5, 0.0, 9.0]], requires_grad=True)
    loss = expert_losses(predictions, scores, torch.ones(2, 3), "mae")
    assert loss.tolist() == [0.75, 2.0, 0.0]
    loss.sum().backward()
    assert predictions.grad is not None
    assert predictions.grad.tolist() == [[0.5, 0.0, 0.0], [0.5, -1.0, 0.0]]


@pytest.mark.parametrize("loss", LOSSES)
def test_an_experts_gradient_does_not_depend_on_what_others_miss(loss: Loss) -> None:
    gradients = []
    for other in (0.0, NAN):
        predictions = torch.tensor([[2.0, 1.0], [0.5, 1.0]], requires_grad=True)
        expert_losses(predictions, torch.tensor([[1.0, other], [3.0, 2.0]]), torch.ones(2, 2), loss).sum().backward()
        assert predictions.grad is not None
        gradients.append(predictions.grad[:, 0])
    assert torch.equal(*gradients)


@pytest.mark.parametrize(
    ("predictions", "scores"),
    [
        ([2.0], [3.0]),  # one score
        ([2.0, 1.0], [3.0, NAN]),
        ([0.1, 0.1, 0.1], [0.3, 0.3, 0.3]),  # nothing varies; in float32 their variances are not quite 0
        ([1e-30, 0.0], [0.0, 0.0]),  # varies, but its square is 0
    ],
)
def test_no_concordance_is_no_loss(predictions: list[float], scores: list[float]) -> None:
    found = torch.tensor(predictions).unsqueeze(1).requires_grad_()
    loss = expert_losses(found, torch.tensor(scores).unsqueeze(1), torch.ones(len(scores), 1), "ccc")
    loss.sum().backward()
    assert loss.tolist() == [0]
    assert found.grad is not None
    assert not found.grad.any()


def test_perfect_and_inverted_concordance() -> None:
    scores = torch.tensor([[0.0], [1.0], [3.0]])
    mirrored = 2 * scores.mean() - scores
    losses = [expert_losses(each, scores, torch.ones(3, 1), "ccc").item() for each in (scores, mirrored)]
    assert losses == pytest.approx([0, 2], abs=1e-6)


def test_sums_and_counts() -> None:
    total, count = absolute_errors(torch.zeros(3, 2), torch.tensor([[1.0, NAN], [2.0, NAN], [NAN, 4.0]]))
    assert total.tolist() == [3.0, 4.0]
    assert count.tolist() == [2.0, 1.0]
