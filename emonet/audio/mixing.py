"""Down-mix to mono, compared with what went in: channels that cancel each other or are empty are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from emonet.audio.notices import Notice

CANCELLED = 0.2  # share of the power that unrelated channels would leave, below which they cancel
EMPTY = 1e-4  # share of the loudest channel's power (-40 dB, which leaks into an empty one), below which none is heard


@dataclass(frozen=True)
class Mix:
    """Which channels make the mono signal.

    Args:
        channels: their positions, averaged; None for all.
        notice: why they are not all.
    """

    channels: tuple[int, ...] | None = None
    notice: Notice | None = None


class Mixer:
    """Averages channels block by block, and measures them.

    Args:
        channels: positions of those to average; None for all.
    """

    def __init__(self, channels: Sequence[int] | None = None) -> None:
        self._channels = None if channels is None else list(channels)
        self._frames = 0
        self._sums = np.zeros(0)  # of each channel, and of their average
        self._squares = np.zeros(0)

    def mono(self, block: Float32[np.ndarray, "frames channels"]) -> Float32[np.ndarray, " frames"]:
        """The average of a block's channels."""
        taken = block if self._channels is None else block[:, self._channels]
        mono = taken[:, 0] if taken.shape[1] == 1 else taken.mean(axis=1)
        if block.shape[1] > 1 and self._channels is None:
            every = np.column_stack([block, mono]).astype(np.float64)
            self._frames += len(every)
            self._sums = self._sums + every.sum(axis=0) if len(self._sums) else every.sum(axis=0)
            squares = np.square(every).sum(axis=0)
            self._squares = self._squares + squares if len(self._squares) else squares
        return mono

    def verdict(self) -> Mix:
        """Whether the average is what should be heard, after all blocks."""
        if not self._frames:
            return Mix()
        powers: Float64[np.ndarray, " sides"] = self._squares / self._frames - np.square(self._sums / self._frames)
        each, mono = powers[:-1], powers[-1]
        if not np.isfinite(powers).all() or each.max() <= 0:
            return Mix()
        sounding = [int(one) for one in np.flatnonzero(each > EMPTY * each.max())]
        if mono < CANCELLED / len(each) * each.mean():
            loudest = int(each.argmax())
            text = f"channels cancel each other; {_named([loudest], len(each))} was taken alone"
            return Mix((loudest,), Notice("channels", text))
        if len(sounding) == len(each):
            return Mix()
        verb = "was taken alone" if len(sounding) == 1 else "were averaged"
        empty = len(each) - len(sounding)
        text = f"{empty} of {len(each)} channels {'are' if empty > 1 else 'is'} empty"
        return Mix(tuple(sounding), Notice("channels", f"{text}; {_named(sounding, len(each))} {verb}"))


def _named(positions: Sequence[int], channels: int) -> str:
    if channels == 2:
        return f"the {('left', 'right')[positions[0]]} one"
    return f"channel{'s' * (len(positions) > 1)} {', '.join(str(one + 1) for one in positions)}"
