"""Clips and corpora: what there is to hear, who speaks, in which split, with which scores."""

from __future__ import annotations

import math
import os
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32, Int64

from emonet.clips.fingerprints import fingerprint
from emonet.clips.leaks import doubtful_speakers, shared_recordings, shared_speakers
from emonet.errors import RequestError, raise_collected
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
        label: the clip's class as the corpus names it, e.g. `angry`; None where it has none.
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
    label: str | None = None


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
    """Clips with unique ids, scores in range, and splits that share neither speakers nor recordings.

    Args:
        name: the spec that opened it, e.g. `ravdess:data/ravdess`.
        clips: the usable clips, in a fixed order.
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
    clips: tuple[Clip, ...]
    rejected: tuple[Rejection, ...] = ()
    targets: TargetSpec = EMOTIONS
    note: str = ""
    passed_over: Mapping[str, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    classes: Mapping[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        raise_collected(
            f"the corpus {self.name!r} cannot be used",
            [*self._duplicates(), *self._wrong_scores(), *self._wrong_classes(), *self._leaks()],
            hint=f"emonet corpus {shlex.quote(self.name)}",
        )

    def _duplicates(self) -> list[str]:
        counts = Counter(clip.id for clip in self.clips)
        if len(counts) == len(self.clips):
            return []
        return [f"clip id {clip_id!r} occurs {n} times; ids are unique" for clip_id, n in counts.items() if n > 1]

    def _wrong_scores(self) -> list[str]:
        """Found in all scores at once; said one by one."""
        unknown = {name for name in _names(self.clips) if name not in self.targets}
        suspects: Iterable[Clip] = self.clips
        if not unknown:
            rows, columns, values = self._given(self.clips)
            low, high = (
                np.array([getattr(target, end) for target in self.targets])[columns] for end in ("low", "high")
            )
            wrong = (values < low) | (values > high)
            suspects = [self.clips[row] for row in np.unique(rows[wrong])]
        problems = []
        for clip in suspects:
            for name, score in clip.scores.items():
                try:
                    self.targets.validate(name, score)
                except RequestError as error:
                    problems.append(f"clip {clip.id!r}: " + " ".join(str(error).split()))
        return problems

    def _wrong_classes(self) -> list[str]:
        return [
            f"class {label!r} stands for {target!r}, which is no target"
            for label, target in self.classes.items()
            if target is not None and target not in self.targets.ids
        ]

    def _leaks(self) -> list[str]:
        unknown = sorted({clip.split for clip in self.clips} - set(SPLITS))
        problems = [f"split {name!r} is none of {', '.join(SPLITS)}" for name in unknown]
        problems += shared_speakers(self._splits())
        if len({clip.split for clip in self.clips}) > 1:
            spans = [(clip.start or 0.0, math.inf if clip.end is None else clip.end) for clip in self.clips]
            names = [clip.id for clip in self.clips]
            problems += shared_recordings(self._files[0].tolist(), spans, [clip.split for clip in self.clips], names)
        return problems

    def _splits(self) -> dict[str, set[str]]:
        """Speaker -> splits; a clip that names its own id as its speaker is anonymous."""
        splits: dict[str, set[str]] = defaultdict(set)
        for clip in self.clips:
            if clip.speaker is not clip.id and clip.speaker != clip.id:
                splits[clip.speaker].add(clip.split)
        return splits

    def __len__(self) -> int:
        return len(self.clips)

    def of_split(self, split: Split) -> tuple[Clip, ...]:
        """The clips of one split, in order."""
        return tuple(clip for clip in self.clips if clip.split == split)

    def scores(self, clips: Sequence[Clip] | None = None) -> Float32[np.ndarray, "clips targets"]:
        """Scores of `clips` (default: all); NaN where nobody rated."""
        clips = self.clips if clips is None else clips
        matrix = np.full((len(clips), len(self.targets)), np.nan, np.float32)
        rows, columns, values = self._given(clips)
        matrix[rows, columns] = values
        return matrix

    def _given(self, clips: Sequence[Clip]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row, column and value of each score that somebody gave."""
        columns = {name: self.targets.index(name) for name in _names(clips)}
        counts = np.fromiter((len(clip.scores) for clip in clips), np.intp, len(clips))
        total = int(counts.sum())
        names = chain.from_iterable(clip.scores for clip in clips)
        values = chain.from_iterable(clip.scores.values() for clip in clips)
        return (
            np.repeat(np.arange(len(clips)), counts),
            np.fromiter(map(columns.__getitem__, names), np.intp, total),
            np.fromiter(values, np.float64, total),
        )

    def weights(self) -> Float32[np.ndarray, "clips targets"]:
        """How much each score counts in the experts' training; 1 unless the corpus says otherwise."""
        weights = np.fromiter((clip.weight for clip in self.clips), np.float32, len(self.clips))
        matrix = np.repeat(weights[:, None], len(self.targets), 1)
        for row, clip in enumerate(self.clips):
            for name, weight in clip.weights.items():
                matrix[row, self.targets.index(name)] *= weight
        return matrix

    @cached_property
    def rated(self) -> tuple[str, ...]:
        """Ids of the targets that at least one clip has a score for, in the order of `targets`."""
        present = {self.targets.ids[self.targets.index(name)] for name in _names(self.clips)}
        return tuple(name for name in self.targets.ids if name in present)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The classes that at least one clip has, by name."""
        return tuple(sorted({clip.label for clip in self.clips if clip.label is not None}))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What its user should look at: remarks, and ids that may be one speaker's."""
        return (*self.remarks, *doubtful_speakers(self._splits()))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the clips (id, size of the audio, part, speaker, split, language, scores, caption) and targets.

        Weights and labels are left out: states do not depend on them, and a store need not be made again when they
        change; scores that are made of labels are in. Files enter by their size, not their content, so that a corpus of
        a million files is fingerprinted in half a minute; audio in memory enters by its SHA-256.
        """
        return fingerprint(self.clips, self._files[1], self.targets.to_json())

    @cached_property
    def _files(self) -> tuple[Int64[np.ndarray, " clips"], Int64[np.ndarray, " clips"]]:
        """Which recording each clip is of, by a number; its size in bytes, or -1 where it is no file or is not there.

        The same file has one number, under whatever path; audio in memory has one for each clip.
        """
        numbers: dict[object, int] = {}
        sizes: list[int] = []
        groups: list[int] = []
        for row, clip in enumerate(self.clips):
            identity, size = (row, -1) if isinstance(clip.audio, bytes) else _file(clip.audio)
            groups.append(numbers.setdefault(identity, len(numbers)))
            sizes.append(size)
        return np.array(groups, np.int64), np.array(sizes, np.int64)


def _file(audio: Path) -> tuple[object, int]:
    """What makes a file the same as another one, and its size in bytes (-1 where it is not there)."""
    try:
        found = os.stat(audio)  # noqa: PTH116 a third faster, a million times
    except OSError:
        return str(audio), -1
    return (found.st_dev, found.st_ino), found.st_size


def _names(clips: Iterable[Clip]) -> set[str]:
    return set(chain.from_iterable(clip.scores for clip in clips))


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
        clips=tuple(clip for corpus in corpora for clip in corpus.clips),
        rejected=tuple(rejection for corpus in corpora for rejection in corpus.rejected),
        targets=first.targets,
        note=" ".join(dict.fromkeys(corpus.note for corpus in corpora if corpus.note)),
        passed_over=dict(passed_over),
        remarks=tuple(remark for corpus in corpora for remark in corpus.remarks),
        classes=_joined_classes(corpora),
    )


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
