"""Whisper's log-mel spectrogram, batched and on the device that the encoder is on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from emonet.windows import HOP, N_FFT, SAMPLE_RATE, Window

FLOOR = 1e-10  # power; below it the logarithm says nothing
DYNAMIC_RANGE = 8.0  # log10 units (80 dB) below a clip's loudest bin, where it is clamped


class LogMel(nn.Module):
    """Log-mel frames that equal those of `transformers.WhisperFeatureExtractor` within 1e-4.

    Args:
        mels: mel bands: 80, or 128 for the large-v3 family.
    """

    bank: Float[Tensor, "bins mels"]
    hann: Float[Tensor, " n_fft"]

    def __init__(self, mels: int = 80) -> None:
        super().__init__()
        self.mels = mels
        self.register_buffer("bank", _filter_bank(mels), persistent=False)
        self.register_buffer("hann", torch.hann_window(N_FFT), persistent=False)

    def forward(self, waveforms: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch mels mel_frames"]:
        """Log-mel of audio that is already padded to the window.

        Args:
            waveforms: 16 kHz audio, shape (batch, samples), samples a multiple of 160.

        Returns:
            Shape (batch, mels, samples / 160), about -1 to 1.5; always computed in float32.
        """
        with torch.autocast(waveforms.device.type, enabled=False):
            spectrum = torch.stft(waveforms.float(), N_FFT, HOP, window=self.hann, return_complex=True)
            # Whisper drops the frame that is centred on the end of the audio.
            kept = spectrum[..., :-1]
            power = kept.real.square() + kept.imag.square()
            bands = torch.einsum("bft,fm->bmt", power, self.bank)
            log = bands.clamp(min=FLOOR).log10()
            # Each clip's own maximum: a loud neighbour in the batch must not lift the floor of a quiet clip.
            loudest = log.amax(dim=(1, 2), keepdim=True)
            return (torch.maximum(log, loudest - DYNAMIC_RANGE) + 4.0) / 4.0


def pad(waveforms: Sequence[np.ndarray], window: Window, *, pinned: bool = False) -> Float32[Tensor, "batch samples"]:
    """Cut each waveform to the window, or pad it with zeros at its end.

    Args:
        waveforms: 16 kHz mono audio, each of shape (samples,).
        window: what the model hears.
        pinned: in memory that a GPU copies from by itself, and which PyTorch uses again.

    Returns:
        Shape (len(waveforms), window.samples).
    """
    shape = (len(waveforms), window.samples)
    padded = torch.zeros(shape, pin_memory=True) if pinned else torch.from_numpy(np.zeros(shape, np.float32))
    for row, waveform in zip(padded.numpy(), waveforms, strict=True):
        heard = waveform[: window.samples]
        row[: len(heard)] = heard
    return padded


def _filter_bank(mels: int) -> Float32[Tensor, "bins mels"]:
    """Slaney's triangular mel filters from 0 to 8 kHz, bit for bit those of `WhisperFeatureExtractor`.

    The scale is linear (3 mels per 200 Hz) up to 1 kHz, mel 15, and logarithmic above (27 mels per factor 6.4).
    """
    top = 15.0 + np.log(SAMPLE_RATE / 2 / 1000.0) * (27.0 / np.log(6.4))
    scale = np.linspace(0.0, top, mels + 2)
    edges = np.where(scale < 15.0, 200.0 * scale / 3.0, 1000.0 * np.exp(np.log(6.4) / 27.0 * (scale - 15.0)))
    bins = np.linspace(0, SAMPLE_RATE // 2, N_FFT // 2 + 1)
    widths, slopes = np.diff(edges), edges - bins[:, None]
    bank = np.maximum(0.0, np.minimum(-slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]))
    bank *= 2.0 / (edges[2:] - edges[:-2])  # each band weighs the same
    return torch.from_numpy(bank).float()
