from __future__ import annotations

import pytest
import torch
from torch import Tensor

from emonet.experts.inputs import VARIANCE_FLOOR
from emonet.experts.pooling import attentive_views

pytestmark = pytest.mark.numeric

FRAMES, WIDTH, EXPERTS, QUERIES = 30, 5, 3, 2


def plain(states: Tensor, lengths: Tensor, query: Tensor) -> Tensor:
    """Clip by clip in float64, as the formula says it."""
    views = []
    for clip, length in zip(states.double(), lengths.tolist(), strict=True):
        heard = clip[:length]
        weights = torch.einsum("fw,eqw->eqf", heard, query.double()).softmax(2)
        mean = weights @ heard
        spread = (weights @ heard.square() - mean.square()).clamp(min=0)
        views.append(torch.cat((mean, (spread + VARIANCE_FLOOR).sqrt()), 2).flatten(1))
    return torch.stack(views, 1)


@pytest.mark.parametrize("clips", [1, 7, 20])
def test_views_and_their_gradient_are_those_of_the_formula(clips: int) -> None:
    generator = torch.Generator().manual_seed(clips)
    states = torch.randn(clips, FRAMES, WIDTH, generator=generator).half()
    lengths = torch.randint(2, FRAMES + 1, (clips,), generator=generator)
    weights = torch.randn(EXPERTS, clips, QUERIES * 2 * WIDTH, generator=generator)
    query = torch.randn(EXPERTS, QUERIES, WIDTH, generator=generator, requires_grad=True)
    views = attentive_views(states, lengths, query)
    (views * weights).sum().backward()  # type: ignore[no-untyped-call]
    found, query.grad = query.grad, None
    expected = plain(states, lengths, query)
    (expected * weights).sum().backward()  # type: ignore[no-untyped-call]
    assert found is not None
    assert query.grad is not None
    torch.testing.assert_close(views.double(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found, query.grad, rtol=1e-3, atol=1e-3 * float(query.grad.abs().max()))


def test_frames_beyond_a_clips_length_leave_no_trace() -> None:
    states, other = torch.randn(2, 3, FRAMES, WIDTH).unbind(0)
    lengths = torch.tensor([4, FRAMES, 9])
    for row, length in enumerate(lengths.tolist()):
        other[row, :length] = states[row, :length]
    query = torch.randn(EXPERTS, QUERIES, WIDTH)
    assert torch.equal(attentive_views(states, lengths, query), attentive_views(other, lengths, query))
