from __future__ import annotations

import numpy as np
import pytest
import torch

from emonet.audio import SpecAugment, augment_waveform
from emonet.configs import AugmentConfig

pytestmark = pytest.mark.numeric

OFF = AugmentConfig(frequency_masks=0, time_masks=0, shift_seconds=0)
TONE = np.sin(np.arange(16_000) / 10).astype(np.float32)


def augmented(seed: int = 0, **changes: float) -> np.ndarray:
    config = AugmentConfig.model_validate(OFF.model_dump() | changes)
    return augment_waveform(TONE, config, np.random.default_rng(seed))


def test_everything_off_changes_nothing() -> None:
    assert np.array_equal(augmented(), TONE)
    mels = torch.randn(2, 80, 50)
    assert torch.equal(SpecAugment(OFF)(mels, 0), mels)


def test_what_could_change_the_emotion_is_off_by_default() -> None:
    config = AugmentConfig()
    assert (config.gain_db, config.speed_percent, config.noise_probability) == (0, 0, 0)


def test_masks_are_seeded_and_each_clips_own() -> None:
    augment = SpecAugment(AugmentConfig(frequency_masks=1, frequency_width=20, time_masks=1, time_width=30))
    mels = torch.randn(4, 80, 100) + 1
    before = torch.random.get_rng_state()
    masked = augment(mels, 3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(masked, augment(mels, 3))
    assert not torch.equal(masked, augment(mels, 4))
    hidden = (masked - mels).abs() > 1e-5
    assert 0 < hidden.float().mean() < 0.5
    assert len({tuple(clip.flatten().tolist()) for clip in hidden}) == 4
    means = mels.mean(dim=(1, 2), keepdim=True).expand_as(mels)
    torch.testing.assert_close(masked[hidden], means[hidden])


def test_shift_delays_and_keeps_the_rest() -> None:
    later = augmented(shift_seconds=0.2)
    start = len(later) - len(TONE)
    assert 0 < start <= 3200
    assert not later[:start].any()
    assert np.array_equal(later[start:], TONE)


@pytest.mark.parametrize("seed", range(5))
def test_gain_stays_in_its_range(seed: int) -> None:
    factor = augmented(seed, gain_db=6)[1:] / TONE[1:]
    assert np.allclose(factor, factor[0], atol=1e-4)
    assert 10 ** (-6 / 20) <= factor[0] <= 10 ** (6 / 20)


@pytest.mark.parametrize("seed", range(5))
def test_noise_has_the_ratio_asked_for(seed: int) -> None:
    noise = augmented(seed, noise_probability=1, noise_snr_low=10, noise_snr_high=12) - TONE
    ratio = 10 * np.log10((TONE**2).sum() / (noise**2).sum())
    assert ratio + 1e-3 >= 10
    assert ratio - 1e-3 <= 12


def test_speed_changes_length_and_pitch() -> None:
    lengths = [len(augmented(seed, speed_percent=10)) for seed in range(8)]
    assert min(lengths) >= 16_000 / 1.1 - 2
    assert max(lengths) <= 16_000 / 0.9 + 2
    assert len(set(lengths)) == 8


def test_same_seed_same_audio_and_the_input_is_left_alone() -> None:
    before = TONE.copy()
    everything = {"noise_probability": 1, "shift_seconds": 0.1, "gain_db": 3, "speed_percent": 5}
    assert np.array_equal(augmented(1, **everything), augmented(1, **everything))
    assert augmented(1, **everything).dtype == np.float32
    assert np.array_equal(TONE, before)


def test_one_part_does_not_move_another() -> None:
    shifted = augmented(2, shift_seconds=0.2)
    both = augmented(2, shift_seconds=0.2, gain_db=3)
    assert len(shifted) == len(both)
