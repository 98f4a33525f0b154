"""Summary of a timeline: for how much of the scored time each emotion is the strongest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emonet.schema import Schema

if TYPE_CHECKING:
    from emonet.timelines import Timeline


class Felt(Schema):
    """One emotion in a recording."""

    id: str
    """Of the target."""
    name: str
    """Of the target."""
    share: float
    """Of the scored time, for which it is the strongest (0 to 1)."""
    mean: float
    """Its score by time (in its units)."""
    highest: float
    """Its highest score (in its units)."""
    at: float
    """Where the segment with the highest score begins (seconds)."""


def felt(timeline: Timeline) -> tuple[Felt, ...]:
    """The emotions, first those that are the strongest for longest; segments without speech do not count."""
    from emonet.timelines import strongest_of

    heard = [one for one in timeline.segments if "no speech" not in one.flags]
    total = sum(one.segment.seconds for one in heard)
    if not total:
        return ()
    seconds = dict.fromkeys(timeline.target_spec.ranked, 0.0)
    for one in heard:
        for name in strongest_of(one, timeline, 1):
            seconds[name] += one.segment.seconds
    rows = []
    for name, time in seconds.items():
        highest = max(heard, key=lambda one: one.scores[name])
        rows.append(
            Felt(
                id=name,
                name=timeline.target_spec[name].name,
                share=round(time / total, 4),
                mean=round(sum(one.scores[name] * one.segment.seconds for one in heard) / total, 5),
                highest=highest.scores[name],
                at=highest.segment.start,
            )
        )
    return tuple(sorted(rows, key=lambda row: (-row.share, -row.mean)))
