"""Summary of a corpus: what it holds, in figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from emonet.clips import SPLITS, Clip, Corpus, Rejection, Split
from emonet.corpora.sounds import NOTHING_HEARD, SoundReport
from emonet.schema import Schema


class SplitCounts(Schema):
    """One split."""

    clips: int
    """Usable clips (count)."""
    speakers: int
    """Different speakers (count)."""
    hours: float
    """Length of all clips (hours)."""


class RatingCounts(Schema):
    """The scores of one emotion."""

    rated: int
    """Clips with a score, 0 included (count)."""
    nonzero: int
    """Clips with a score above the lowest (count)."""
    mean: float
    """Mean score of the rated clips (on the target's scale)."""


class ClassCounts(Schema):
    """One class of clips."""

    target: str | None
    """Id of the target that stands for it; None where none does."""
    clips: dict[Split, int]
    """Usable clips by split (count)."""


class CorpusReport(Schema):
    """What a corpus holds."""

    name: str
    """The spec that opened it."""
    note: str
    """Licence and limits, in a sentence; may be empty."""
    clips: int
    """Usable clips (count)."""
    hours: float
    """Length of all usable clips (hours); those whose header does not say are left out."""
    speakers: int
    """Different speakers (count)."""
    languages: dict[str, int]
    """ISO 639-1 code -> clips (count), most frequent first."""
    splits: dict[str, SplitCounts]
    """Split -> what it holds."""
    emotions: dict[str, RatingCounts]
    """Id of each rated emotion -> its scores, in the order of the targets."""
    classes: dict[str, ClassCounts] = Field(default_factory=dict)
    """Label of each class -> its clips, by name; empty where clips have no labels."""
    seconds: dict[str, float]
    """Quantile of the clips' lengths (min, 5%, 50%, 95%, max) -> length (seconds); empty if none is known."""
    rejected: tuple[Rejection, ...]
    """Clips that were left out, with their reasons."""
    passed_over: dict[str, int] = Field(default_factory=dict)
    """Suffix -> files of the corpus' folder that are no audio it reads (count), most frequent first."""
    warnings: tuple[str, ...] = ()
    """What the corpus' user should look at, a sentence each."""
    fingerprint: str
    """SHA-256 of everything that the corpus fixes (64 hex characters)."""
    sounds: SoundReport
    """What listening to the clips told."""

    @property
    def exit_code(self) -> int:
        """1 if the same sound is in two splits, else 0."""
        return int(bool(self.sounds.leaks))


def describe(corpus: Corpus, sounds: SoundReport = NOTHING_HEARD) -> CorpusReport:
    """Count what `corpus` holds.

    Args:
        corpus: to describe.
        sounds: what listening to it told (`emonet.corpora.listen`), if anybody has.
    """
    lengths = _seconds(corpus.clips)
    quantiles = {"min": 0.0, "5%": 0.05, "50%": 0.5, "95%": 0.95, "max": 1.0}
    return CorpusReport(
        name=corpus.name,
        note=corpus.note,
        clips=len(corpus),
        hours=_hours(corpus.clips),
        speakers=len({clip.speaker for clip in corpus.clips}),
        languages=dict(Counter(clip.language for clip in corpus.clips).most_common()),
        splits={split: _count_split(corpus.of_split(split)) for split in SPLITS},
        emotions=_count_ratings(corpus),
        classes=_count_classes(corpus),
        seconds={name: round(float(np.quantile(lengths, q)), 3) for name, q in quantiles.items() if len(lengths)},
        rejected=corpus.rejected,
        passed_over=dict(corpus.passed_over),
        warnings=corpus.warnings,
        fingerprint=corpus.fingerprint,
        sounds=sounds,
    )


def _seconds(clips: Sequence[Clip]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    lengths = np.array([clip.seconds for clip in clips], np.float64)
    return lengths[np.isfinite(lengths)]


def _hours(clips: Sequence[Clip]) -> float:
    return round(float(_seconds(clips).sum()) / 3600, 4)


def _count_split(clips: Sequence[Clip]) -> SplitCounts:
    return SplitCounts(clips=len(clips), speakers=len({clip.speaker for clip in clips}), hours=_hours(clips))


def _count_ratings(corpus: Corpus) -> dict[str, RatingCounts]:
    scores, counts = corpus.scores(), {}
    for name in corpus.rated:
        position = corpus.targets.index(name)
        given = scores[~np.isnan(scores[:, position]), position]
        if len(given):
            counts[name] = RatingCounts(
                rated=len(given),
                nonzero=int((given > corpus.targets.low[position]).sum()),
                mean=round(float(given.mean()), 4),
            )
    return counts


def _count_classes(corpus: Corpus) -> dict[str, ClassCounts]:
    counts = Counter((clip.label, clip.split) for clip in corpus.clips)
    return {
        label: ClassCounts(target=corpus.classes.get(label), clips={split: counts[label, split] for split in SPLITS})
        for label in corpus.labels
    }
