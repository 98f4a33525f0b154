"""Curves: the scores of a timeline at equal distances, smoothed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d

from emonet.errors import RequestError
from emonet.timelines.timeline import Timeline

if TYPE_CHECKING:
    import pandas as pd

HOP = 0.1  # seconds
SMOOTHING = 0.5  # seconds


def curves(
    timeline: Timeline,
    hop: float = HOP,
    smoothing: float = SMOOTHING,
    *,
    speaker: str | None = None,
    standardised: bool = False,
) -> pd.DataFrame:
    """Scores at equal distances: the mean of all segments that lie there, smoothed over time.

    Args:
        timeline: scored segments.
        hop: from one point to the next (seconds).
        smoothing: standard deviation of the Gaussian (seconds); 0 leaves steps. What was not scored has no part in it.
        speaker: whose segments; None: everybody's.
        standardised: deviations from the reference population in place of scores, where the model has one.

    Returns:
        A table indexed by seconds, from 0, one column per target; NaN where nothing was scored.

    Raises:
        RequestError: if `hop` is not above 0, or `smoothing` is below it.
    """
    import pandas as pd

    if not (0 < hop < math.inf and 0 <= smoothing < math.inf):
        raise RequestError(
            "there are no such curves",
            expected="a hop above 0 s, smoothing from 0 s",
            found=f"a hop of {hop:g} s, smoothing of {smoothing:g} s",
        )
    ids = timeline.target_spec.ids
    points = math.ceil(round(timeline.seconds / hop, 6))
    steps, counts = np.zeros((points + 1, len(ids))), np.zeros((points + 1, len(ids)))
    for one in timeline.segments:
        if speaker is not None and one.segment.speaker != speaker:
            continue
        first, last = (min(points, math.ceil(round(time / hop, 6))) for time in (one.segment.start, one.segment.end))
        scores = one.standardised if standardised else one.scores
        values = np.array([scores.get(name, math.nan) for name in ids])
        known = np.isfinite(values)
        for place, sign in ((first, 1), (last, -1)):
            steps[place] += sign * np.where(known, values, 0)
            counts[place] += sign * known
    sums, heard = steps.cumsum(0)[:points], counts.cumsum(0)[:points]
    is_heard = heard > 0.5
    means = np.where(is_heard, sums / np.maximum(heard, 1), 0)
    if smoothing and points:
        width = smoothing / hop
        weights = gaussian_filter1d(is_heard.astype(float), width, axis=0, mode="constant")
        means = gaussian_filter1d(means, width, axis=0, mode="constant") / np.where(is_heard, weights, 1)
    found = np.where(is_heard, means, np.nan)
    return pd.DataFrame(found, columns=list(ids), index=pd.Index(np.arange(points) * hop, name="seconds"))
