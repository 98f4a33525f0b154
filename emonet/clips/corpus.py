"""Clips and corpora: what there is to hear, who speaks, in which split, with which scores."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
from jaxtyping import Bool, Float32

from emonet.clips.checks import leaks, repeated_ids, speakers_splits, wrong_classes, wrong_scores
from emonet.clips.clip import Clip, Rejection, Split
from emonet.clips.columns import ClipColumns
from emonet.clips.fingerprints import fingerprint
from emonet.clips.given import Given
from emonet.clips.leaks import doubtful_speakers
from emonet.clips.sequence import Clips, column_of
from emonet.errors import RequestError, raise_collected
from emonet.targets import EMOTIONS, TargetSpec


@dataclass(frozen=True)
class Corpus:
    """Clips with unique ids, scores in range, and splits that share neither speakers nor recordings.

    Args:
        name: the spec that opened it, e.g. `ravdess:data/ravdess`.
        clips: the usable clips, in a fixed order: a tuple, or `Clips`, which makes them on demand out of columns.
        rejected: those left out, with their reasons.
        targets: what the scores mean.
        note: a sentence that every report of this corpus shows (licence, limits).
        passed_over: suffix -> files of its folder that are no audio it reads (count).
        remarks: what its user should look at, found while it was opened.
        classes: label -> id of the target that stands for it; None for a class that is none of them, such as neutral. A
            label that is not in it stands for nothing.

    Raises:
        RequestError: if an id occurs twice, a score is unknown or out of range, a class stands for no target, a split
            is unknown, or two splits share a speaker, ids that look like one speaker's, or a part of a recording; all
            problems in one message.
    """

    name: str
    clips: Sequence[Clip]
    rejected: tuple[Rejection, ...] = ()
    targets: TargetSpec = EMOTIONS
    note: str = ""
    passed_over: Mapping[str, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    classes: Mapping[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = self.columns
        raise_collected(
            f"the corpus {self.name!r} cannot be used",
            [
                *repeated_ids(columns),
                *wrong_scores(columns, self.targets),
                *wrong_classes(self.classes, self.targets),
                *leaks(columns),
            ],
            hint=f"emonet corpus {shlex.quote(self.name)}",
        )

    @classmethod
    def restored(cls, *, fingerprint: str, warnings: tuple[str, ...], **fields: Any) -> Self:
        """A corpus that was checked and fingerprinted once and has been kept since: nothing is done again.

        Args:
            fingerprint: that it had.
            warnings: that it had.
            fields: of the corpus; all of them.
        """
        corpus = cls.__new__(cls)
        corpus.__dict__.update(fields, fingerprint=fingerprint, warnings=warnings)  # as unpickling does
        return corpus

    @cached_property
    def columns(self) -> ClipColumns:
        """The clips as columns, a million of which are no million objects."""
        return self.clips.columns if isinstance(self.clips, Clips) else ClipColumns.of(self.clips)

    def __len__(self) -> int:
        return len(self.clips)

    def of_split(self, split: Split) -> Sequence[Clip]:
        """The clips of one split, in order."""
        if isinstance(self.clips, Clips):
            return self.clips.where(self.in_split(split))
        return tuple(clip for clip in self.clips if clip.split == split)

    def in_split(self, split: Split) -> Bool[np.ndarray, " clips"]:
        """Which clips are in a split."""
        return self.columns.split.equal(split)

    def scores(self, clips: Sequence[Clip] | None = None) -> Float32[np.ndarray, "clips targets"]:
        """Scores of `clips` (default: all); NaN where nobody rated."""
        given: Given = self.columns.scores if clips is None else column_of(clips, "scores")
        matrix = np.full((len(given), len(self.targets)), np.nan, np.float32)
        for column, name in enumerate(given.names):
            rows = given.where(column)
            matrix[rows, self.targets.index(name)] = given.values[rows, column]
        return matrix

    def weights(self) -> Float32[np.ndarray, "clips targets"]:
        """How much each score counts in the experts' training; 1 unless the corpus says otherwise."""
        columns = self.columns
        matrix = np.repeat(columns.weight.astype(np.float32)[:, None], len(self.targets), 1)
        for column, name in enumerate(columns.weights.names):
            rows = columns.weights.where(column)
            matrix[rows, self.targets.index(name)] *= columns.weights.values[rows, column].astype(np.float32)
        return matrix

    @cached_property
    def rated(self) -> tuple[str, ...]:
        """Ids of the targets that at least one clip has a score for, in the order of `targets`."""
        present = {self.targets.ids[self.targets.index(name)] for name in self.columns.scores.used()}
        return tuple(name for name in self.targets.ids if name in present)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The classes that at least one clip has, by name."""
        return tuple(sorted(self.columns.label.present()))

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What its user should look at: remarks, and ids that may be one speaker's."""
        return (*self.remarks, *doubtful_speakers(speakers_splits(self.columns)))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the clips (id, size of the audio, part, speaker, split, language, scores, caption) and targets.

        Weights and labels are left out: states do not depend on them, and a store need not be made again when they
        change; scores that are made of labels are in. Files enter by their size, not their content, so that a corpus of
        a million files is fingerprinted in a minute; so does audio inside of tars, Parquet files and object stores;
        audio in memory enters by its SHA-256. A snapshot keeps it.
        """
        return fingerprint(self.clips, self.columns.recordings[1].tolist(), self.targets.to_json())


def join(corpora: Sequence[Corpus]) -> Corpus:
    """One corpus out of several that share their targets.

    Raises:
        RequestError: if they score different targets, name different things by one label, share an id or a recording,
            or split a speaker.
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
    passed_over: Counter[str] = Counter()
    for corpus in corpora:
        passed_over.update(corpus.passed_over)
    return Corpus(
        name="+".join(corpus.name for corpus in corpora),
        clips=_joined_clips(corpora),
        rejected=tuple(rejection for corpus in corpora for rejection in corpus.rejected),
        targets=first.targets,
        note=" ".join(dict.fromkeys(corpus.note for corpus in corpora if corpus.note)),
        passed_over=dict(passed_over),
        remarks=tuple(remark for corpus in corpora for remark in corpus.remarks),
        classes=_joined_classes(corpora),
    )


def _joined_clips(corpora: Sequence[Corpus]) -> Sequence[Clip]:
    if any(isinstance(corpus.clips, Clips) for corpus in corpora):
        return Clips(ClipColumns.joined([corpus.columns for corpus in corpora]))
    return tuple(clip for corpus in corpora for clip in corpus.clips)


def _joined_classes(corpora: Sequence[Corpus]) -> dict[str, str | None]:
    """What the labels of all corpora stand for.

    Raises:
        RequestError: if one stands for different targets.
    """
    meant: dict[str, dict[str | None, str]] = defaultdict(dict)  # label -> target -> the first corpus that says so
    for corpus in corpora:
        for label, target in corpus.classes.items():
            meant[label].setdefault(target, corpus.name)
    raise_collected(
        "corpora name different things by the same class label",
        [
            f"{label!r} is " + ", ".join(f"{target} in {name}" for target, name in targets.items())
            for label, targets in meant.items()
            if len(targets) > 1
        ],
        hint="rename the labels of one of them",
    )
    return {label: next(iter(targets)) for label, targets in meant.items()}
