"""Clips and corpora: what there is to hear, who speaks, in which split, with which scores."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32

from emonet.errors import RequestError, raise_collected
from emonet.schema import digest
from emonet.targets import EMOTIONS, TargetSpec

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording, or a part of one, with what is known about it.

    Args:
        id: unique in its corpus, e.g. `ravdess/03-01-06-01-02-01-12`.
        audio: path of a file that libsndfile reads, or the encoded bytes of one.
        speaker: who speaks, unique across corpora, e.g. `ravdess/actor-12`.
        split: `train`, `validation` or `test`; the clips of a speaker share one.
        language: ISO 639-1 code, e.g. `en`; `und` where unknown.
        scores: target id -> score; a target that nobody rated is absent.
        caption: a sentence about how the speaker feels, where the corpus has one.
        start: where the clip starts in the audio, in seconds; None is the beginning.
        end: where it ends, in seconds; None is the end of the audio.
        seconds: length of the clip in seconds (from the header, before the window cuts it).
        weight: how much the clip counts in the experts' training, 0 or more.
        weights: target id -> how much its score of this clip counts, times `weight`; 1 where absent.
    """

    id: str
    audio: Path | bytes
    speaker: str
    split: Split
    language: str = "und"
    scores: Mapping[str, float] = field(default_factory=dict)
    caption: str | None = None
    start: float | None = None
    end: float | None = None
    seconds: float = float("nan")
    weight: float = 1.0
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A clip that could not be used, and why.

    Args:
        id: the clip's id, or its path where it has none.
        reason: one line, e.g. `0 bytes`.
    """

    id: str
    reason: str


@dataclass(frozen=True)
class Corpus:
    """Clips with unique ids, scores in range, and speaker-disjoint splits.

    Args:
        name: the spec that opened it, e.g. `ravdess:data/ravdess`.
        clips: the usable clips, in a fixed order.
        rejected: those left out, with their reasons.
        targets: what the scores mean.
        note: a sentence that every report of this corpus shows (licence, limits).

    Raises:
        RequestError: if an id occurs twice, a score is unknown or out of range, a split is unknown, or a speaker is
            in two splits; all problems in one message.
    """

    name: str
    clips: tuple[Clip, ...]
    rejected: tuple[Rejection, ...] = ()
    targets: TargetSpec = EMOTIONS
    note: str = ""

    def __post_init__(self) -> None:
        raise_collected(
            f"the corpus {self.name!r} cannot be used",
            [*self._duplicates(), *self._wrong_scores(), *self._leaks()],
            hint=f"emonet corpus {self.name}",
        )

    def _duplicates(self) -> list[str]:
        counts = Counter(clip.id for clip in self.clips)
        return [f"clip id {clip_id!r} occurs {n} times; ids are unique" for clip_id, n in counts.items() if n > 1]

    def _wrong_scores(self) -> list[str]:
        problems = []
        for clip in self.clips:
            for name, score in clip.scores.items():
                try:
                    self.targets.validate(name, score)
                except RequestError as error:
                    problems.append(f"clip {clip.id!r}: " + " ".join(str(error).split()))
        return problems

    def _leaks(self) -> list[str]:
        splits: dict[str, set[str]] = defaultdict(set)
        for clip in self.clips:
            splits[clip.speaker].add(clip.split)
        unknown = sorted({clip.split for clip in self.clips} - set(SPLITS))
        return [f"split {name!r} is none of {', '.join(SPLITS)}" for name in unknown] + [
            f"speaker {speaker!r} is in {' and '.join(sorted(found))}; a speaker belongs to one split"
            for speaker, found in sorted(splits.items())
            if len(found) > 1
        ]

    def __len__(self) -> int:
        return len(self.clips)

    def of_split(self, split: Split) -> tuple[Clip, ...]:
        """The clips of one split, in order."""
        return tuple(clip for clip in self.clips if clip.split == split)

    def scores(self, clips: Sequence[Clip] | None = None) -> Float32[np.ndarray, "clips targets"]:
        """Scores of `clips` (default: all); NaN where nobody rated."""
        clips = self.clips if clips is None else clips
        matrix = np.full((len(clips), len(self.targets)), np.nan, np.float32)
        for row, clip in enumerate(clips):
            for name, score in clip.scores.items():
                matrix[row, self.targets.index(name)] = score
        return matrix

    def weights(self) -> Float32[np.ndarray, "clips targets"]:
        """How much each score counts in the experts' training; 1 unless the corpus says otherwise."""
        matrix = np.repeat(np.array([[clip.weight] for clip in self.clips], np.float32), len(self.targets), 1)
        for row, clip in enumerate(self.clips):
            for name, weight in clip.weights.items():
                matrix[row, self.targets.index(name)] *= weight
        return matrix

    @cached_property
    def rated(self) -> tuple[str, ...]:
        """Ids of the targets that at least one clip has a score for, in the order of `targets`."""
        present = {self.targets.ids[self.targets.index(name)] for clip in self.clips for name in clip.scores}
        return tuple(name for name in self.targets.ids if name in present)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the clips (id, size of the audio, part, speaker, split, language, scores, caption) and targets.

        Weights are left out: states do not depend on them, and a store need not be made again when they change.
        Audio enters by its size, not its content, so that a corpus of a million files is fingerprinted in seconds.
        """
        return digest([self.targets.to_json(), [_identity(clip) for clip in self.clips]])


def _identity(clip: Clip) -> list[object]:
    if isinstance(clip.audio, bytes):
        audio: object = hashlib.sha256(clip.audio).hexdigest()
    else:
        audio = clip.audio.stat().st_size
    scores = sorted((name, round(float(score), 6)) for name, score in clip.scores.items())
    return [
        clip.id,
        audio,
        clip.start,
        clip.end,
        clip.speaker,
        clip.split,
        clip.language,
        scores,
        clip.caption,
    ]


def join(corpora: Sequence[Corpus]) -> Corpus:
    """One corpus out of several that share their targets.

    Raises:
        RequestError: if they score different targets, or share an id or split a speaker.
    """
    first, *others = corpora
    if not others:
        return first
    for other in others:
        if other.targets.ids != first.targets.ids:
            raise RequestError(
                f"{first.name!r} and {other.name!r} score different targets and cannot be joined",
                expected=", ".join(first.targets.ids),
                found=", ".join(other.targets.ids),
            )
    return Corpus(
        name="+".join(corpus.name for corpus in corpora),
        clips=tuple(clip for corpus in corpora for clip in corpus.clips),
        rejected=tuple(rejection for corpus in corpora for rejection in corpus.rejected),
        targets=first.targets,
        note=" ".join(dict.fromkeys(corpus.note for corpus in corpora if corpus.note)),
    )
