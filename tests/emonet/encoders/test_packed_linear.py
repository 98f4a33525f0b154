from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from emonet.encoders.packed_linear import PackedLinear, pack, packable
from emonet.encoders.whisper_network import WhisperEncoder
from tests.tiny import random_encoder

pytestmark = [
    pytest.mark.numeric,
    pytest.mark.skipif(not packable(), reason="this processor does not multiply in bf16"),
]


def error(found: Tensor, expected: Tensor) -> float:
    """Root mean square of the difference, as a share of the expected values'."""
    return float((found.float() - expected).square().mean().sqrt() / expected.square().mean().sqrt())


def linear(*, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(64, 96, bias=bias)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [7, 150, 1500])
def test_the_product_is_that_of_bf16_weights(bias: bool, rows: int) -> None:
    layer, states = linear(bias=bias), torch.randn(3, 50, 64)
    with torch.inference_mode():
        found = PackedLinear(layer, rows=rows)(states)
        assert found.shape == (3, 50, 96)
        assert found.dtype == torch.bfloat16
        assert error(found, layer(states)) < 0.005
        assert error(found, layer.bfloat16()(states.bfloat16()).float()) < 0.001


def test_the_activation_is_fused_before_rounding() -> None:
    layer, states = linear(), torch.randn(200, 64)
    with torch.inference_mode():
        exact = gelu(layer(states))
        found = PackedLinear(layer, rows=200, activation="gelu")(states)
        apart = gelu(layer.bfloat16()(states.bfloat16()))
    assert error(found, exact) < error(apart, exact) < 0.01


def test_the_layer_keeps_its_weights() -> None:
    layer = linear()
    before = layer.weight.clone()
    PackedLinear(layer, rows=10)
    assert layer.weight.dtype == torch.float32
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize(("activation", "fused"), [("gelu", True), ("relu", False)])
def test_a_whole_encoder(activation: str, fused: bool) -> None:
    shape = {"d_model": 64, "encoder_layers": 2, "encoder_ffn_dim": 128, "max_source_positions": 100}
    theirs = random_encoder(activation_function=activation, **shape)
    encoder = WhisperEncoder.of(theirs.config.to_dict(), theirs.state_dict())
    mel = torch.randn(2, 80, 200, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = encoder(mel)
        pack(encoder, rows=200)
        with torch.autocast("cpu", torch.bfloat16):
            found = encoder(mel)
    assert found.dtype == torch.float32
    assert error(found, expected) < 0.02
    assert sum(isinstance(module, PackedLinear) for module in encoder.modules()) == 12
    assert isinstance(encoder.layers[0].activation_fn, nn.Identity) == fused
