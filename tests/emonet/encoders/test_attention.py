from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.whisper.modeling_whisper import eager_attention_forward

from emonet.encoders import attention
from emonet.encoders.attention import SCORES, SHORTEST, applies, attend, per_head
from emonet.encoders.whisper_network import WhisperEncoder
from tests.tiny import random_encoder

pytestmark = pytest.mark.numeric

Triple = tuple[Tensor, Tensor, Tensor]


class Layer(torch.nn.Module):
    is_causal = False


def states(batch: int = 1, heads: int = 2, length: int = 250, width: int = 64, scale: float = 1.0) -> Triple:
    generator = torch.Generator().manual_seed(length)
    shape = (batch, heads, length, width)
    query, key, value = (torch.randn(shape, generator=generator).bfloat16() for _ in range(3))
    return query * scale * width**-0.5, key, value


def error(found: Tensor, expected: Tensor) -> float:
    """Root mean square of the difference, as a share of the expected values'."""
    return float((found.float() - expected).square().mean().sqrt() / expected.square().mean().sqrt())


def exact(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    wide = scaled_dot_product_attention(query.float(), key.float(), value.float(), scale=1.0)
    return wide.transpose(1, 2)


@pytest.mark.parametrize(
    ("batch", "heads", "length", "width"), [(1, 12, 1500, 64), (3, 2, 250, 64), (2, 3, 129, 32), (1, 1, 1, 8)]
)
def test_parity_with_float32(batch: int, heads: int, length: int, width: int) -> None:
    query, key, value = states(batch, heads, length, width)
    found = per_head(query, key, value)
    assert found.shape == (batch, length, heads, width)
    assert found.dtype == torch.bfloat16
    assert error(found, exact(query, key, value)) < 0.006


@pytest.mark.parametrize("scale", [4.0, 20.0, 100.0])
def test_large_scores_cost_no_more_than_in_transformers_own(scale: float) -> None:
    query, key, value = states(scale=scale)
    eager, _ = eager_attention_forward(Layer().eval(), query, key, value, None, scaling=1.0)
    expected = exact(query, key, value)
    assert error(per_head(query, key, value), expected) < 1.1 * error(eager, expected)  # both round to bf16, elsewhere


def test_scores_too_large_for_an_exponential_are_no_problem() -> None:
    query, key, value = states(scale=5000.0)
    assert per_head(query, key, value).isfinite().all()


@pytest.mark.parametrize("at_once", [1, 4, 7, 100])
def test_the_grouping_of_heads_does_not_matter(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value = states(batch=3, heads=3, length=150)
    together = per_head(query, key, value)
    monkeypatch.setattr(attention, "SCORES", at_once * 150**2)
    assert error(per_head(query, key, value), together.float()) < 2e-3


def test_other_clips_do_not_matter_and_inputs_stay() -> None:
    query, key, value = states(batch=4)
    before = [tensor.clone() for tensor in (query, key, value)]
    together = per_head(query, key, value)
    swapped = per_head(*(torch.cat([tensor[:1], tensor[1:].flip(0)]) for tensor in (query, key, value)))
    assert torch.equal(swapped[0], together[0])
    assert torch.equal(per_head(query, key, value), together)
    assert all(torch.equal(*pair) for pair in zip(before, (query, key, value), strict=True))


def test_one_head_of_thirty_seconds_at_once() -> None:
    assert SCORES // 1500**2 == 1


@pytest.fixture
def without_matrix_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "has_matrix_units", lambda: False)


def test_not_with_matrix_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "has_matrix_units", lambda: True)
    with torch.inference_mode():
        assert not applies(states(length=SHORTEST)[0])


@pytest.mark.usefixtures("without_matrix_units")
def test_where_it_applies() -> None:
    query = states(length=SHORTEST)[0]
    with torch.inference_mode():
        assert applies(query)
        assert not applies(query.float())
        assert not applies(query.to("meta"))
        assert not applies(query[:, :, 1:])
    assert not applies(query)  # a gradient could be asked for


@pytest.mark.usefixtures("without_matrix_units")
@pytest.mark.parametrize(("length", "ours"), [(SHORTEST, True), (SHORTEST - 1, False)])
def test_whichever_is_faster(length: int, ours: bool) -> None:
    query, key, value = states(length=length)
    with torch.inference_mode():
        fused = scaled_dot_product_attention(query, key, value, scale=1.0).transpose(1, 2)
        assert torch.equal(attend(query, key, value), per_head(query, key, value) if ours else fused)


@pytest.mark.parametrize("matrix_units", [False, True])
def test_inside_whispers_encoder(matrix_units: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "has_matrix_units", lambda: matrix_units)
    theirs = random_encoder(d_model=64, encoder_layers=2, encoder_ffn_dim=128, max_source_positions=200)
    encoder = WhisperEncoder.of(theirs.config.to_dict(), theirs.state_dict())
    mel = torch.randn(2, 80, 400, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = theirs(mel).last_hidden_state
        with torch.autocast("cpu", torch.bfloat16):
            assert error(encoder(mel), expected) < 0.02
