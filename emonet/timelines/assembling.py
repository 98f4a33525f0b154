"""Assembling: what the journal holds of a recording becomes its timeline."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emonet.names import as_text
from emonet.segments import Segment
from emonet.timelines.batches import DIGITS
from emonet.timelines.journal import Entry
from emonet.timelines.options import TimelineOptions
from emonet.timelines.timeline import Flag, ScoredSegment, Timeline
from emonet.timelines.voices import cluster_voices
from emonet.windows import SAMPLE_RATE

if TYPE_CHECKING:
    from emonet.inference import EmotionPipeline

_Piece = tuple[int, int, int | None]  # first sample, sample behind the last one, channel
FAR = 1.0  # unfamiliarity above which a sound is flagged


def assembled(
    pipeline: EmotionPipeline,
    entries: Sequence[Entry],
    rest: Mapping[str, Any],
    *,
    audio: Path,
    model: str,
    options: TimelineOptions,
) -> Timeline:
    """The timeline of a recording.

    Args:
        pipeline: the model.
        entries: of its journal: batches of scored pieces.
        rest: seconds; speech, notices, envelope and error, as far as they are known.
        audio: the recording.
        model: where the scores come from.
        options: how much speech a segment needs.
    """
    speech = None
    if "speech" in rest:
        speech = tuple(sorted(_segment(start, end, who, "", channel) for start, end, who, channel in rest["speech"]))
    share = _Shares(rest["speech"]) if "speech" in rest else None
    quiet = set() if share is None else _quiet(entries, share, options.speech_share)
    speakers = {} if speech is None else _speakers(entries, quiet, options)  # all have been heard
    found = []
    for entry in entries:
        for row, (start, end, speaker, text, channel) in enumerate(entry["pieces"]):
            place = start, end, channel
            flags: list[Flag] = ["no speech"] if place in quiet else []
            who = speakers.get(place, "" if speakers else speaker)
            found.append(_scored(pipeline, entry, row, _segment(start, end, who, text, channel), flags))
    return Timeline(
        audio=as_text(audio),
        seconds=rest["seconds"],
        model=model,
        target_spec=pipeline.target_spec,
        segments=tuple(sorted(found, key=lambda one: _place(one.segment))),
        speech=speech,
        notices=tuple(rest.get("notices", ())),
        envelope=tuple((low, high) for low, high in rest.get("envelope", ())),
        error=rest.get("error"),
    )


def _quiet(entries: Sequence[Entry], share: _Shares, least: float) -> set[_Piece]:
    """Pieces in which nobody speaks."""
    pieces = {(start, end, channel) for entry in entries for start, end, _, _, channel in entry["pieces"]}
    return {piece for piece in pieces if share.of(*piece) < least}


def _speakers(entries: Sequence[Entry], quiet: set[_Piece], options: TimelineOptions) -> dict[_Piece, str]:
    """Who speaks in each piece in which somebody does, where speakers are told apart by their voices."""
    heard: dict[_Piece, Sequence[float]] = {}
    for entry in entries:
        for (start, end, _, _, channel), voice in zip(entry["pieces"], entry.get("voices", ()), strict=False):
            if (start, end, channel) not in quiet:
                heard[start, end, channel] = voice
    pieces = sorted(heard, key=lambda piece: piece[:2])
    numbers = cluster_voices(
        np.array([heard[piece] for piece in pieces], np.float32),
        [(end - start) / SAMPLE_RATE for start, end, _ in pieces],
        distance=options.voice_distance,
        voices=options.voices,
    )
    return {piece: f"speaker {number + 1}" for piece, number in zip(pieces, numbers, strict=True)}


def _place(segment: Segment) -> tuple[float, float, str, int]:
    return segment.start, segment.end, segment.speaker, -1 if segment.channel is None else segment.channel


def _segment(start: int, end: int, speaker: str, text: str, channel: int | None) -> Segment:
    return Segment(start / SAMPLE_RATE, end / SAMPLE_RATE, speaker, channel, text)


def _scored(
    pipeline: EmotionPipeline, entry: Entry, row: int, segment: Segment, flags: Sequence[Flag]
) -> ScoredSegment:
    scores = dict(zip(pipeline.targets, entry["scores"][row], strict=True))
    standardised = {} if pipeline.population is None else pipeline.population.standardised(scores)
    distance = entry["unfamiliarity"][row] if "unfamiliarity" in entry else None
    far: list[Flag] = ["unfamiliar"] if distance is not None and distance > FAR else []
    return ScoredSegment(
        segment,
        scores,
        uncertainties=entry["uncertainties"][row] if "uncertainties" in entry else {},
        standardised={name: round(value, DIGITS) for name, value in standardised.items()},
        unfamiliarity=distance,
        flags=(*flags, *far),
        caption=entry["captions"][row] if "captions" in entry else "",
    )


class _Shares:
    """How much of a span somebody speaks, channel by channel.

    Args:
        speech: start and end (samples), speaker and channel of each span; those of a channel do not overlap.
    """

    def __init__(self, speech: Sequence[Sequence[Any]]) -> None:
        self._spans: dict[int | None, list[tuple[int, int]]] = {}
        for start, end, _, channel in speech:
            self._spans.setdefault(channel, []).append((start, end))
        for spans in self._spans.values():
            spans.sort()

    def of(self, start: int, end: int, channel: int | None) -> float:
        """From 0 to 1."""
        spans = self._spans.get(channel, [])
        first = max(0, bisect_left(spans, (start, start)) - 1)
        heard = 0
        for begin, stop in spans[first:]:
            if begin >= end:
                break
            heard += max(0, min(stop, end) - max(begin, start))
        return heard / (end - start)
