"""An encoder's output for silence: the mean of its states beyond the end of clips, position by position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
from jaxtyping import Float16

SAMPLE = 32  # clips are enough: these states hardly differ from clip to clip


@final
class SilenceMeter:
    """Gathers the mean over clips.

    Args:
        frames: states per clip.
        width: values per state.
    """

    def __init__(self, frames: int, width: int) -> None:
        self._sum = np.zeros((frames, width), np.float64)
        self._count = np.zeros((frames, 1), np.int64)

    def update(self, states: Float16[np.ndarray, "frames width"], heard: int) -> None:
        """Add one clip.

        Args:
            states: as computed.
            heard: how many of them hear the clip, not padding.
        """
        self._sum[heard:] += states[heard:]
        self._count[heard:] += 1

    def mean(self) -> Float16[np.ndarray, "frames width"]:
        """The mean at each position; where no clip was silent, that over all positions, and zeros if there is none."""
        overall = self._sum.sum(axis=0) / max(1, int(self._count.sum()))
        known = self._sum / np.maximum(self._count, 1)
        return np.where(self._count > 0, known, overall).astype(np.float16)


def sample(rows: Sequence[int]) -> list[int]:
    """Up to 32 of `rows`, spread evenly: the same ones in every process."""
    chosen = np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).round().astype(int)
    return [rows[position] for position in chosen]
