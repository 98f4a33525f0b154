from __future__ import annotations

import pytest

from experiments.heads.layers import LayerWeights


def test_the_layers_that_matter_most_are_named_in_a_line() -> None:
    weights = LayerWeights((1, 2, 3, 4), {"anger": (0.1, 0.2, 0.4, 0.3), "fear": (0.1, 0.4, 0.4, 0.1)})
    assert weights.mean == pytest.approx((0.1, 0.3, 0.4, 0.2))
    assert str(weights) == (
        "layers that matter most: 3 (0.40), 2 (0.30), 4 (0.20); mean weights of all experts, 0.25 if equal"
    )
