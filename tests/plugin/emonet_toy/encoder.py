"""An encoder without weights: how loud some bands of frequencies are, 25 times a second."""

import torch

from emonet import Window


class Bands:
    """`bands:N` has N bands, of equal width; N divides 320."""

    window = Window(1.0)
    frames = 25
    layers = (1,)
    precision = "float32"

    def __init__(self, argument: str, *, precision: str, device: torch.device) -> None:
        self.width = int(argument or 16)
        self.digest = f"bands, version 1, {self.width}"
        self._device = device

    def states(self, waveforms: torch.Tensor) -> torch.Tensor:
        """16 kHz audio of shape (batch, 16,000) in, logarithms of shape (batch, 25, width) out."""
        pieces = waveforms.to(self._device).unflatten(1, (self.frames, -1))
        spectrum = torch.fft.rfft(pieces).abs()[..., 1:]
        return spectrum.unflatten(2, (self.width, -1)).mean(-1).add(1e-6).log10()
