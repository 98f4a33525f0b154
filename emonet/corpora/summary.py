"""Summary of a corpus: what it holds, in figures."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from emonet.clips import SPLITS, Corpus, Rejection, Split
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
    columns = corpus.columns
    lengths = _finite(columns.seconds)
    quantiles = {"min": 0.0, "5%": 0.05, "50%": 0.5, "95%": 0.95, "max": 1.0}
    return CorpusReport(
        name=corpus.name,
        note=corpus.note,
        clips=len(corpus),
        hours=_hours(lengths),
        speakers=len(columns.speaker.present()),
        languages=dict(Counter(columns.language.values()).most_common()),
        splits={split: _count_split(corpus, split) for split in SPLITS},
        emotions=_count_ratings(corpus),
        classes=_count_classes(corpus),
        seconds={name: round(float(np.quantile(lengths, q)), 3) for name, q in quantiles.items() if len(lengths)},
        rejected=corpus.rejected,
        passed_over=dict(corpus.passed_over),
        warnings=corpus.warnings,
        fingerprint=corpus.fingerprint,
        sounds=sounds,
    )


def _finite(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    return seconds[np.isfinite(seconds)]


def _hours(seconds: NDArray[np.float64]) -> float:
    return round(float(seconds.sum()) / 3600, 4)


def _count_split(corpus: Corpus, split: Split) -> SplitCounts:
    rows = np.flatnonzero(corpus.in_split(split))
    speakers = corpus.columns.speaker.take(rows).present()
    seconds = _finite(corpus.columns.seconds[rows])
    return SplitCounts(clips=len(rows), speakers=len(speakers), hours=_hours(seconds))


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
    counts = Counter(zip(corpus.columns.label.values(), corpus.columns.split.values(), strict=True))
    return {
        label: ClassCounts(target=corpus.classes.get(label), clips={split: counts[label, split] for split in SPLITS})
        for label in corpus.labels
    }
