from __future__ import annotations

import pytest
import torch

from emonet.experts.dropout import ExpertDropout

pytestmark = pytest.mark.numeric

TARGETS = ("anger", "fear", "awe")
WIDTHS, SHARES = (64, 32, 16), (0.5, 0.0, 0.2)


def masks(targets: tuple[str, ...] = TARGETS, *, seed: int = 0, steps: int = 1) -> list[torch.Tensor]:
    dropout = ExpertDropout(targets, WIDTHS, SHARES, seed)
    for _ in range(steps):
        first, none, last = dropout(100, torch.zeros(1))
    assert first is not None
    assert none is None
    assert last is not None
    return [first, last]


def test_shares_are_dropped_and_the_rest_keeps_the_mean() -> None:
    first, last = masks()
    assert first.shape == (3, 100, 64)
    assert last.shape == (3, 100, 16)
    assert set(first.unique().tolist()) == {0.0, 2.0}
    assert set(last.unique().tolist()) == {0.0, 1.25}
    for each in (*first, *last):
        assert float(each.mean()) == pytest.approx(1, abs=0.07)


def test_experts_steps_and_seeds_have_masks_of_their_own() -> None:
    (first, _), (later, _), (other, _) = masks(), masks(steps=2), masks(seed=1)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, later)
    assert not torch.equal(first, other)


def test_masks_do_not_depend_on_company() -> None:
    for among, alone in zip(masks(steps=3), masks(("fear",), steps=3), strict=True):
        assert torch.equal(among[1], alone[0])


def test_evaluation_drops_nothing_and_draws_nothing() -> None:
    dropout = ExpertDropout(TARGETS, WIDTHS, SHARES, 0)
    assert dropout.eval()(100, torch.zeros(1)) == (None, None, None)
    first = dropout.train()(100, torch.zeros(1))[0]
    assert first is not None
    assert torch.equal(first, masks()[0])


def test_nothing_is_drawn_where_nothing_is_dropped() -> None:
    assert ExpertDropout(TARGETS, WIDTHS, (0.0, 0.0, 0.0), 0)(4, torch.zeros(1)) == (None, None, None)


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    masks()
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.gpu
def test_a_gpu_draws_by_expert_too() -> None:
    among, alone = (
        ExpertDropout(targets, WIDTHS, SHARES, 0)(100, torch.zeros(1, device="cuda"))[0]
        for targets in (TARGETS, ("fear",))
    )
    assert among is not None
    assert alone is not None
    assert among.is_cuda
    assert torch.equal(among[1], alone[0])
