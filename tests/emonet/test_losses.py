from __future__ import annotations

import torch

from emonet.losses import absolute_errors, masked_mae

NAN = float("nan")


def test_missing_scores_leave_no_trace() -> None:
    scores = torch.tensor([[1.0, NAN, NAN], [3.0, 2.0, NAN]])
    predictions = torch.tensor([[2.0, 9.0, 9.0], [3.5, 0.0, 9.0]], requires_grad=True)
    loss = masked_mae(predictions, scores)
    assert loss.tolist() == [0.75, 2.0, 0.0]
    loss.sum().backward()
    assert predictions.grad is not None
    assert predictions.grad.tolist() == [[0.5, 0.0, 0.0], [0.5, -1.0, 0.0]]


def test_an_experts_gradient_does_not_depend_on_what_others_miss() -> None:
    gradients = []
    for other in (0.0, NAN):
        predictions = torch.tensor([[2.0, 1.0], [0.5, 1.0]], requires_grad=True)
        masked_mae(predictions, torch.tensor([[1.0, other], [3.0, 2.0]])).sum().backward()
        assert predictions.grad is not None
        gradients.append(predictions.grad[:, 0])
    assert torch.equal(*gradients)


def test_sums_and_counts() -> None:
    total, count = absolute_errors(torch.zeros(3, 2), torch.tensor([[1.0, NAN], [2.0, NAN], [NAN, 4.0]]))
    assert total.tolist() == [3.0, 4.0]
    assert count.tolist() == [2.0, 1.0]
