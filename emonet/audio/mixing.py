"""Down-mix to mono, compared with what went in: channels that cancel each other or are empty are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from emonet.audio.notices import Notice

CANCELLED = 0.2  # share of the power that unrelated channels would leave, below which they cancel
TOLERATED = 0.1  # share of the power that may lie in pieces in which channels cancel
PIECE = 1 << 14  # frames that are judged together: 1 s at 16 kHz, a third at 48 kHz
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
        self._powers: list[Float64[np.ndarray, " sides"]] = []  # of each channel and of their average, by piece

    def mono(self, block: Float32[np.ndarray, "frames channels"]) -> Float32[np.ndarray, " frames"]:
        """The average of a block's channels."""
        taken = block if self._channels is None else block[:, self._channels]
        mono = taken[:, 0] if taken.shape[1] == 1 else taken.mean(axis=1)
        if block.shape[1] > 1 and self._channels is None:
            every = np.column_stack([block, mono])
            for first in range(0, len(every), PIECE):
                self._powers.append(len(every[first : first + PIECE]) * every[first : first + PIECE].var(0, np.float64))
        return mono

    def verdict(self) -> Mix:
        """Whether the average is what should be heard, after all blocks."""
        if not self._powers:
            return Mix()
        powers = np.stack(self._powers)
        each, mono = powers[:, :-1], powers[:, -1]
        if not np.isfinite(powers).all() or each.max() <= 0:
            return Mix()
        lost = mono < CANCELLED / each.shape[1] * each.mean(axis=1)
        share = each[lost].sum() / each.sum()
        each = each.sum(axis=0)
        sounding = [int(one) for one in np.flatnonzero(each > EMPTY * each.max())]
        if share > TOLERATED:
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
