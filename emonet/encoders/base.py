"""The protocol `Encoder`: audio of one window in, states out. Whisper's is one; plug-ins bring others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from emonet.configs import EncoderPrecision
from emonet.windows import Window


class Padded(NamedTuple):
    """Clips of one pass, with how much of each is sound and no padding."""

    waveforms: Tensor
    """Float32, 16 kHz, padded to the window, shape (batch, window.samples)."""
    samples: Sequence[int]
    """Of each clip that are sound (count); 0 for one that could not be read."""


def parts_of(clips: Tensor | Padded) -> Padded:
    """Waveforms with their lengths: all of a clip is sound where nothing else is said."""
    return clips if isinstance(clips, Padded) else Padded(clips, [clips.shape[-1]] * len(clips))


@runtime_checkable
class Encoder(Protocol):
    """Turns waveforms into states; its weights do not change.

    What `NAME[:ARGUMENT]` names is made by a call of the entry point `NAME` of the group `emonet.encoders`:
    `entry(argument, precision="auto" | "float32" | "bf16", device=torch.device(...))`.
    """

    @property
    def window(self) -> Window:
        """As much audio as it hears of a clip; clips are padded with zeros, or cut, to it."""

    @property
    def frames(self) -> int:
        """States of a window (count): evenly spread over it, the first one at its start."""

    @property
    def width(self) -> int:
        """Values of a state (count)."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Which of its layers give the states, counted from 1; several have equal parts of the width, side by side."""

    @property
    def digest(self) -> str:
        """Tells it from any other whose states differ: of weights and settings, the same on every machine."""

    @property
    def precision(self) -> EncoderPrecision:
        """Arithmetic that it computes in here."""

    def states(self, waveforms: Tensor) -> Tensor:
        """The states of some clips.

        Args:
            waveforms: float32, 16 kHz, on the processor, shape (batch, window.samples).

        Returns:
            Shape (batch, frames, width); finite, and up to 65504, which float16 holds.
        """


@runtime_checkable
class ReadyEncoder(Encoder, Protocol):
    """An encoder as the store and the pipeline use it; what a plug-in need not know is added to it."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def mels(self) -> int:
        """Mel bands of its input (count); 0 where it has another input."""

    @property
    def depth(self) -> int | None:
        """Layers of the whole encoder (count), those that are not there included; None where it is not known."""

    @property
    def flops_per_clip(self) -> float:
        """Operations of one window; 0 where they are not known."""

    @property
    def parameters(self) -> int | None:
        """Its weights (count), where that is known."""

    @property
    def weight_bytes(self) -> int | None:
        """Memory of its weights (bytes), where that is known."""

    @property
    def computed_seconds(self) -> float | None:
        """How long it has computed in `stream` so far, where a GPU's own clock tells; None elsewhere."""

    def batch_size(self) -> int:
        """Clips per pass that suit it here (count)."""

    def states(self, clips: Tensor | Padded) -> Tensor:
        """As `Encoder.states`, float16 and on the processor; an encoder that masks padding takes it from `Padded`."""

    def stream(self, batches: Iterable[Tensor | Padded]) -> Iterator[Tensor]:
        """The states of each batch, in order, float16 and on the processor."""

    def save(self, folder: Path) -> None:
        """Write what `open_encoder(str(folder))` makes the same encoder of."""
