"""Envelope of a recording: the lowest and highest sample of equal parts, however long it is."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from emonet.windows import SAMPLE_RATE

PARTS = 20_000  # at most: 1.8 s each in ten hours, 0.1 MB of JSON an hour
_FINEST = SAMPLE_RATE // 100  # samples of a part (10 ms), until there are too many of them


class Envelope:
    """Grows with the recording; once there are too many parts, each two become one."""

    def __init__(self) -> None:
        self._part = _FINEST
        self._rest = np.zeros(0, np.float32)
        self._parts = np.zeros((0, 2), np.float32)

    def feed(self, samples: Float32[np.ndarray, " samples"]) -> None:
        """Go on with these samples."""
        heard = np.concatenate([self._rest, samples])
        whole = len(heard) // self._part * self._part
        self._rest = heard[whole:]
        self._parts = np.concatenate([self._parts, _extremes(heard[:whole].reshape(-1, self._part))])
        while len(self._parts) > PARTS:
            if len(self._parts) % 2:  # the last one goes back to what waits for more: only its extremes count
                low, high = self._parts[-1]
                self._rest = np.concatenate([np.resize([low, high], self._part).astype(np.float32), self._rest])
                self._parts = self._parts[:-1]
            self._parts = _extremes(self._parts.reshape(-1, 4))
            self._part *= 2

    def pairs(self) -> tuple[tuple[float, float], ...]:
        """Lowest and highest of each part, to four digits."""
        last = [self._rest] if len(self._rest) else []
        parts = np.concatenate([self._parts, *(_extremes(one[None]) for one in last)])
        return tuple((round(float(low), 4), round(float(high), 4)) for low, high in parts)


def _extremes(rows: Float32[np.ndarray, "rows values"]) -> Float32[np.ndarray, "rows 2"]:
    if not len(rows):
        return np.zeros((0, 2), np.float32)
    return np.stack([rows.min(1), rows.max(1)], 1)
