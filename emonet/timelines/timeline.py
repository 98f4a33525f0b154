"""A timeline: the scored segments of a recording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from emonet.segments import Segment
from emonet.targets import TargetSpec

Flag = Literal["no speech", "unfamiliar"]


@dataclass(frozen=True)
class ScoredSegment:
    """What was heard in a segment.

    Args:
        segment: where it is, and who speaks; no longer than the model's window.
        scores: target id -> score, in its units, in the model's order of targets.
        uncertainties: target id -> half-width of the score's interval; only of ensembles.
        standardised: target id -> how far the score lies above the median of the model's reference population, in
            deviations (1.4826 MAD); empty where the model has none.
        unfamiliarity: distance of the sound to what the model was trained on; 1 is as far as 99 % of validation clips
            reach. None where the model does not know.
        flags: why its scores may mean nothing.
        caption: what the captioner writes; empty without.
    """

    segment: Segment
    scores: Mapping[str, float]
    uncertainties: Mapping[str, float] = field(default_factory=dict)
    standardised: Mapping[str, float] = field(default_factory=dict)
    unfamiliarity: float | None = None
    flags: tuple[Flag, ...] = ()
    caption: str = ""


@dataclass(frozen=True)
class Timeline:
    """Who felt what when in a recording.

    Args:
        audio: its path.
        seconds: its length.
        model: where the scores come from.
        target_spec: what is scored.
        segments: by start.
        speech: where somebody speaks, as far as that was looked for; None where it was not.
        notices: what should be known of its sound, a line each.
        envelope: lowest and highest sample (-1 to 1) of equal parts of the recording, of all channels that are heard.
        error: why it ends before the recording does, if that breaks off.
    """

    audio: str
    seconds: float
    model: str
    target_spec: TargetSpec
    segments: tuple[ScoredSegment, ...]
    speech: tuple[Segment, ...] | None = None
    notices: tuple[str, ...] = ()
    envelope: tuple[tuple[float, float], ...] = ()
    error: str | None = None


def channel_name(channel: int) -> str:
    """What a channel is called, as a speaker too: counted from 1."""
    return f"channel {channel + 1}"
