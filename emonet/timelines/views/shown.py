"""What page and picture of a timeline share: the strongest targets, whose segments they are, length and waveform."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from emonet.names import as_text
from emonet.timelines.timeline import ScoredSegment, Timeline, channel_name

SHOWN = 5  # curves that are told apart at a glance
_SHARE = 0.9  # of the segments whose values lie below what counts: neither an outlier nor what is always there


def strongest_targets(timeline: Timeline, count: int = SHOWN) -> tuple[str, ...]:
    """Ids of the emotions that rise highest, strongest first: by z, else by the share of their scale.

    Segments that are flagged do not count where there are others. Of a model without emotions, its first targets.

    Args:
        timeline: scored segments.
        count: how many at most.
    """
    spec = timeline.target_spec
    segments = [one for one in timeline.segments if not one.flags] or list(timeline.segments)
    heights: dict[str, float] = {}
    standardised = any(one.standardised for one in segments)
    for name in spec.ranked:
        values = [
            one.standardised.get(name, np.nan) if standardised else spec[name].share(one.scores.get(name, np.nan))
            for one in segments
        ]
        known = np.array(values)[np.isfinite(values)]
        if len(known):
            heights[name] = float(np.quantile(known, _SHARE))
    return tuple(sorted(heights, key=lambda name: -heights[name])[:count]) or spec.ids[:count]


def voices_of(rows: Sequence[ScoredSegment]) -> list[str]:
    """Whose lane each segment is in: its speaker's, one for each channel; else its channel's; else that of all."""
    places = {(one.segment.speaker, one.segment.channel) for one in rows}
    channels = Counter(speaker for speaker, _ in places)
    names = []
    for one in rows:
        channel = "" if one.segment.channel is None else channel_name(one.segment.channel)
        speaker = as_text(one.segment.speaker)
        several = speaker and channel and channels[one.segment.speaker] > 1
        names.append(f"{speaker}, {channel}" if several else speaker or channel)
    return names


def extent_of(timeline: Timeline) -> float:
    """Its length in seconds; where that is not known, or too short, as far as its segments reach."""
    ends = [one.segment.end for one in timeline.segments]
    return max([length for length in (timeline.seconds, *ends) if length > 0], default=0.1)


def envelope_of(timeline: Timeline, most: int) -> Float[np.ndarray, "parts 2"]:
    """Lowest and highest sample (-1 to 1) of equal parts of the recording, at most so many."""
    parts = np.array(timeline.envelope, float).reshape(-1, 2)
    at = np.linspace(0, len(parts), min(len(parts), most) + 1).astype(int)[:-1]
    if not len(at):
        return parts
    ends = np.stack((np.minimum.reduceat(parts[:, 0], at), np.maximum.reduceat(parts[:, 1], at)), axis=1)
    clipped: Float[np.ndarray, "parts 2"] = np.nan_to_num(np.clip(ends, -1, 1))
    return clipped
