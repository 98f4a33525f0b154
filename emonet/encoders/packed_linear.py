"""Linear layers in bf16 on the processor whose weights lie in the order in which they are multiplied."""

from __future__ import annotations

from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from emonet.encoders.whisper_network import WhisperEncoder
from emonet.runtime import onednn_may_use

# Of oneDNN, as torch.compile calls them; not public, so a PyTorch without them goes on with its own layers.
OPERATORS = ("_is_mkldnn_bf16_supported", "_reorder_linear_weight", "_linear_pointwise")


def packable() -> bool:
    """Whether PyTorch was built with oneDNN and offers it, and oneDNN multiplies in bf16 on this processor."""
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    offered = has_onednn and all(hasattr(torch.ops.mkldnn, name) for name in OPERATORS)
    return offered and onednn_may_use("AVX512_CORE") and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@final
class PackedLinear(nn.Module):
    """What torch.compile makes of a linear layer with frozen weights: oneDNN's product, which reorders weights once.

    Args:
        layer: its weights are rounded to bf16.
        rows: that a product usually has; others work, and may be slower.
        activation: computed before the product is rounded.
    """

    def __init__(self, layer: nn.Linear, *, rows: int, activation: Literal["none", "gelu"] = "none") -> None:
        super().__init__()
        self._weights = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach().bfloat16(), rows)
        bias: Tensor | None = layer.bias
        self._bias = None if bias is None else bias.detach().bfloat16()
        self._activation = activation

    def forward(self, states: Tensor) -> Tensor:
        """The product in bf16.

        Args:
            states: shape (..., in features), float32 or bf16.

        Returns:
            Shape (..., out features).
        """
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            states.bfloat16(), self._weights, self._bias, self._activation, [], "none"
        )
        return product


def pack(encoder: WhisperEncoder, *, rows: int) -> None:
    """Replace the linear layers of a Whisper encoder, and fuse the activation into the first of each block.

    Args:
        encoder: changed in place.
        rows: states in a pass (count).
    """
    fuses = encoder.config["activation_function"] == "gelu"
    layer: Any
    for layer in encoder.layers:
        attention = layer.self_attn
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(attention, name, PackedLinear(getattr(attention, name), rows=rows))
        layer.fc1 = PackedLinear(layer.fc1, rows=rows, activation="gelu" if fuses else "none")
        layer.fc2 = PackedLinear(layer.fc2, rows=rows)
        if fuses:
            layer.activation_fn = nn.Identity()
