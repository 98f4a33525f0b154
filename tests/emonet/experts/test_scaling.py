from __future__ import annotations

import numpy as np
import pytest
import torch

from emonet.experts import Features, InputSpec, ScalingMeter, scaling, standardised_within
from emonet.experts.scaling import FLOOR

pytestmark = pytest.mark.numeric

FRAMES, WIDTH = 6, 4


def test_streaming_equals_all_at_once() -> None:
    spec = InputSpec("flatten", "all", FRAMES, WIDTH)
    states = torch.randn(50, FRAMES, WIDTH, generator=torch.Generator().manual_seed(0)) + 100
    features = spec.prepare(states, torch.full((50,), FRAMES))
    meter = ScalingMeter(spec)
    for index in torch.arange(50).split(8):
        meter.update(features.rows(index))
    measured = meter.scaling()
    torch.testing.assert_close(measured.shift, states.flatten(1).mean(0))
    torch.testing.assert_close(measured.scale, states.flatten(1).std(0, correction=0), rtol=1e-4, atol=1e-4)


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


@pytest.mark.parametrize("batch", [1, 7, 50])
def test_blocks_of_features_and_batches_of_any_size(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(scaling, "_BLOCK", 1)
    monkeypatch.setattr(scaling, "_LEAST", 5)
    spec = InputSpec("flatten", "all", FRAMES, WIDTH)
    states = torch.randn(50, FRAMES, WIDTH, generator=torch.Generator().manual_seed(0)) * 0.01 + 3
    features = spec.prepare(states, torch.full((50,), FRAMES))
    before, meter = features.values.clone(), ScalingMeter(spec)
    for index in torch.arange(50).split(batch):
        meter.update(features.rows(index))
    exact = before.double()
    torch.testing.assert_close(meter.variance(), exact.var(0, correction=0), rtol=1e-5, atol=0)
    torch.testing.assert_close(meter.scaling().shift, exact.mean(0).float(), rtol=1e-6, atol=0)
    assert torch.equal(features.values, before)


def test_what_never_varies_has_no_deviation_at_all() -> None:
    """Not even one of rounding, which standardising would blow up."""
    spec = InputSpec("flatten", "all", 1, 1000)
    states = torch.linspace(-40, 40, 1000).half().expand(37, 1, 1000)
    meter = ScalingMeter(spec)
    for index in torch.arange(37).split(13):
        meter.update(spec.prepare(states, torch.ones(37, dtype=torch.int64)).rows(index))
    assert not meter.variance().any()
    assert torch.equal(meter.scaling().scale, torch.ones(1000))
    assert torch.equal(meter.scaling().shift, states[0, 0].float())


def test_without_clips_there_is_no_scaling() -> None:
    with pytest.raises(ValueError, match="no training clips"):
        ScalingMeter(InputSpec("statistics", "all", FRAMES, WIDTH)).scaling()


def test_each_group_is_standardised_by_itself_alone() -> None:
    spec = InputSpec("statistics", "all", FRAMES, WIDTH)
    values = torch.randn(31, spec.features, generator=torch.Generator().manual_seed(0)) * 3 + 5
    groups = np.array([row % 3 for row in range(30)] + [7])
    features = Features(values, torch.ones(31, dtype=torch.int64))
    found = standardised_within(spec, features, groups).values
    for group in range(3):
        mine = found[groups == group]
        torch.testing.assert_close(mine.mean(0), torch.zeros(spec.features), atol=1e-5, rtol=0)
        torch.testing.assert_close(mine.std(0, correction=0), torch.ones(spec.features))
    assert not found[30].any(), "one clip alone"
    others = Features(torch.where(torch.from_numpy(groups == 1)[:, None], values, values * 100), features.lengths)
    torch.testing.assert_close(standardised_within(spec, others, groups).values[groups == 1], found[groups == 1])
    assert float(values.mean()) == pytest.approx(5, abs=0.5), "what it was given stays as it is"
