from __future__ import annotations

import pytest
import torch

from emonet.inputs import InputSpec
from emonet.scaling import FLOOR, ScalingMeter

FRAMES, WIDTH = 6, 4


def test_streaming_equals_all_at_once() -> None:
    spec = InputSpec("flatten", "all", FRAMES, WIDTH)
    states = torch.randn(50, FRAMES, WIDTH, generator=torch.Generator().manual_seed(0)) + 100
    features = spec.prepare(states, torch.full((50,), FRAMES))
    meter = ScalingMeter(spec)
    for index in torch.arange(50).split(8):
        meter.update(features.rows(index))
    scaling = meter.scaling()
    torch.testing.assert_close(scaling.shift, states.flatten(1).mean(0))
    torch.testing.assert_close(scaling.scale, states.flatten(1).std(0, correction=0), rtol=1e-4, atol=1e-4)


def test_nearly_constant_features_are_not_blown_up_and_constant_ones_are_left_alone() -> None:
    spec = InputSpec("flatten", "all", 1, WIDTH)
    states = torch.randn(200, 1, WIDTH, generator=torch.Generator().manual_seed(0))
    states[:, 0, 0] *= 1e-6
    states[:, 0, 1] = 7
    meter = ScalingMeter(spec)
    meter.update(spec.prepare(states, torch.ones(200, dtype=torch.int64)))
    scale = meter.scaling().scale
    median = states[:, 0, [0, 2, 3]].std(0, correction=0).median()
    assert float(scale[0]) == pytest.approx(FLOOR * float(median), rel=1e-4)
    assert float(scale[1]) == 1.0


def test_attentions_states_are_scaled_over_frames() -> None:
    spec = InputSpec("attention", "all", 400, WIDTH)
    states = torch.randn(30, 400, WIDTH, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [1.0, 2.0, 3.0, 4.0]
    )
    meter = ScalingMeter(spec)
    meter.update(spec.prepare(states, torch.full((30,), 400)))
    torch.testing.assert_close(meter.scaling().states, states.flatten(0, 1).std(0), rtol=1e-3, atol=1e-3)


def test_without_clips_there_is_no_scaling() -> None:
    with pytest.raises(ValueError, match="no training clips"):
        ScalingMeter(InputSpec("statistics", "all", FRAMES, WIDTH)).scaling()
