"""Augmentation of the captioner's training audio: seeded, mild, and nothing that could change the emotion by default.

Bursts of emotion (laughs, sobs) spliced into clips are not offered: they were found to harm (arXiv 2506.09827).
"""

from __future__ import annotations

import numpy as np
import soxr
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torchaudio.functional import add_noise
from torchaudio.transforms import FrequencyMasking, TimeMasking

from emonet.configs import AugmentConfig
from emonet.windows import SAMPLE_RATE


class SpecAugment(nn.Module):
    """Hide bands and stretches of log-mels (arXiv 1904.08779); each clip has masks of its own.

    Args:
        config: how many masks and how wide.
    """

    def __init__(self, config: AugmentConfig) -> None:
        super().__init__()
        frequency = [FrequencyMasking(config.frequency_width, iid_masks=True)] * config.frequency_masks
        time = [TimeMasking(config.time_width, iid_masks=True)] * config.time_masks
        self.masks = nn.Sequential(*frequency, *time)

    def forward(
        self, mels: Float[Tensor, "batch mels mel_frames"], seed: int
    ) -> Float[Tensor, "batch mels mel_frames"]:
        """Masked log-mels; what is hidden takes the clip's mean, which says nothing.

        Args:
            mels: shape (batch, mels, mel_frames).
            seed: fixes the masks; torch's own generators are left as they were.
        """
        if not len(self.masks):
            return mels
        devices = [mels.device] if mels.device.type == "cuda" else []
        mean = mels.mean(dim=(1, 2), keepdim=True)
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            masked: Tensor = self.masks(mels - mean)
        return masked + mean


def augment_waveform(
    waveform: Float32[np.ndarray, " samples"], config: AugmentConfig, rng: np.random.Generator
) -> Float32[np.ndarray, " augmented"]:
    """Speed, loudness, noise and a later start, in this order, as far as `config` has them.

    Args:
        waveform: 16 kHz mono, shape (samples,), not yet padded.
        config: how much of what.
        rng: seeded by run, epoch and clip; switching one part on does not change what another draws.

    Returns:
        A new array of shape (augmented,); speed and start change its length. Samples may leave -1..1, as float may.
    """
    speed, gain, chance, snr, start = rng.random(5)
    result = waveform
    if config.speed_percent > 0:
        factor = 1 + config.speed_percent / 100 * (2 * speed - 1)
        result = soxr.resample(result, SAMPLE_RATE * factor, SAMPLE_RATE)
    if config.gain_db > 0:
        result = result * np.float32(10 ** (config.gain_db * (2 * gain - 1) / 20))
    if chance < config.noise_probability:
        ratio = config.noise_snr_low + (config.noise_snr_high - config.noise_snr_low) * snr
        result = _noisy(result, ratio, rng)
    later = np.zeros(round(config.shift_seconds * SAMPLE_RATE * start), np.float32)
    return np.concatenate([later, result]).astype(np.float32, copy=False)


def _noisy(
    waveform: Float32[np.ndarray, " samples"], snr: float, rng: np.random.Generator
) -> Float32[np.ndarray, " samples"]:
    noise = torch.from_numpy(rng.standard_normal(len(waveform), dtype=np.float32))
    mixed: Tensor = add_noise(torch.from_numpy(np.ascontiguousarray(waveform)), noise, torch.tensor(snr))
    return mixed.float().numpy()
