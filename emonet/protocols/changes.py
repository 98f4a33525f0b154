"""Known changes: clips of one speaker after another in one recording, so that who felt what when is known.

Corpora of acted speech have one emotion a clip. Several clips of a speaker in a row, in random order, are a
recording whose emotion changes at known times; what a timeline says of it is judged by the emotion diarisation error
rate.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from emonet.audio import decode
from emonet.clips import Clip
from emonet.errors import RequestError
from emonet.protocols.diarisation import NEUTRAL, Interval
from emonet.timelines import Timeline
from emonet.windows import SAMPLE_RATE


@dataclass(frozen=True)
class JoinedClips:
    """Clips that make one recording.

    Args:
        id: of the recording: the speaker, and a number.
        clips: in their order.
    """

    id: str
    clips: tuple[Clip, ...]

    @property
    def speaker(self) -> str:
        """Who speaks in all of them."""
        return self.clips[0].speaker

    def write(self, path: Path) -> tuple[Interval, ...]:
        """Write the recording (16 kHz FLAC), and tell which emotion is given when: the label of each clip.

        Raises:
            AudioError: if a clip cannot be used.
        """
        given, place = list[Interval](), 0
        with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, "PCM_16", format="FLAC") as sound:
            for clip in self.clips:
                assert isinstance(clip.audio, Path)
                samples = decode(clip.audio, start=clip.start, end=clip.end).samples
                sound.write(np.clip(samples, -1, 1))
                end = place + len(samples)
                given.append(Interval(place / SAMPLE_RATE, end / SAMPLE_RATE, str(clip.label)))
                place = end
        return tuple(given)


def joined_clips(clips: Sequence[Clip], *, each: int, seed: int = 0) -> tuple[JoinedClips, ...]:
    """Recordings of so many labelled clips of one speaker each, in random order; what remains is left out.

    Args:
        clips: of any speakers, with labels.
        each: clips of a recording (count).
        seed: of the order.

    Raises:
        RequestError: if no speaker has so many.
    """
    by_speaker: dict[str, list[Clip]] = defaultdict(list)
    for clip in sorted(clips, key=lambda one: one.id):
        if clip.label is not None:
            by_speaker[clip.speaker].append(clip)
    found: list[JoinedClips] = []
    for speaker, several in sorted(by_speaker.items()):
        order = np.random.default_rng([seed, len(found)]).permutation(len(several))
        rows = [several[row] for row in order]
        parts = [tuple(rows[start : start + each]) for start in range(0, len(rows) - each + 1, each)]
        found += [JoinedClips(f"{speaker} {number}", part) for number, part in enumerate(parts, 1)]
    if not found:
        raise RequestError(
            "there is no speaker with so many labelled clips",
            expected=f"{each} at least",
            found=f"{max(map(len, by_speaker.values()), default=0)} at most",
        )
    return tuple(found)


def emotion_intervals(
    timeline: Timeline, labels: Mapping[str, str], *, least: float, length: float | None = None
) -> tuple[Interval, ...]:
    """Which emotion a timeline names when; the whole recording has one.

    Each segment has the label of its strongest target, or neutral where that is weak. It reaches to the middle of what
    lies between it and its neighbours, or of what they have in common.

    Args:
        timeline: of one speaker.
        labels: target id -> the emotion that it stands for.
        least: share of its scale (0 to 1) that the strongest target must reach.
        length: of the recording (seconds); by default the timeline's.

    Raises:
        RequestError: if the model scores none of these targets.
    """
    spec = timeline.target_spec
    known = [name for name in labels if name in spec.ids]
    if not known:
        raise RequestError("the model scores no target with a label", expected=", ".join(labels))
    named = []
    for one in timeline.segments:
        shares = {name: spec[name].share(one.scores[name]) for name in known}
        strongest = max(known, key=lambda name: shares[name])
        named.append(labels[strongest] if shares[strongest] >= least else NEUTRAL)
    places = [(one.segment.start, one.segment.end) for one in timeline.segments]
    middles = [(before[1] + after[0]) / 2 for before, after in itertools.pairwise(places)]
    edges = [0.0, *middles, length or timeline.seconds]
    return tuple(
        Interval(start, end, name)
        for (start, end), name in zip(itertools.pairwise(edges), named, strict=bool(named))
        if end > start
    )
