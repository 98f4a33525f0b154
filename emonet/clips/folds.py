"""Folds over speakers: which clips are tested in turn, which are trained on, and who of these is held out to choose by.

Deals go by SHA-256 over names: they depend on nothing but the speakers, and are the same on every machine.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int64

from emonet.clips.clip import Clip, Split
from emonet.clips.leaks import person
from emonet.clips.sequence import values_of
from emonet.errors import RequestError, raise_collected, shortened

VALIDATION = 0.2  # of a fold's training speakers, held out to choose by; one at least

HeldOut = Literal["speakers", "clips", "files"]
"""What validation clips are: those of speakers of their own, some clips of the one training speaker, or as given."""

Rows = Int64[np.ndarray, " rows"]


@dataclass(frozen=True)
class Fold:
    """What is tested in one turn, and what is trained on.

    Args:
        name: of the fold: its number, speaker or file's word.
        test: rows of the clips that are tested, ascending.
        train: rows of those that are trained on.
        validation: rows of those that everything is chosen by; empty until `hold_out` has taken them out of `train`.
    """

    name: str
    test: Rows
    train: Rows
    validation: Rows

    def splits(self, clips: int) -> list[Split | None]:
        """The split of each of so many clips; None for those that this fold leaves out."""
        splits: list[Split | None] = [None] * clips
        parts: tuple[tuple[Split, Rows], ...] = (
            ("train", self.train),
            ("validation", self.validation),
            ("test", self.test),
        )
        for split, rows in parts:
            for row in rows.tolist():
                splits[row] = split
        return splits

    def shared(self, clips: Sequence[Clip]) -> tuple[str, ...]:
        """Speakers of test clips who are trained on or chosen by, too."""
        speakers = values_of(clips, "speaker")
        heard = {
            person(one) for one in {speakers[row] for rows in (self.train, self.validation) for row in rows.tolist()}
        }
        return tuple(sorted(one for one in {speakers[row] for row in self.test.tolist()} if person(one) in heard))


@dataclass(frozen=True)
class Folds:
    """All folds of a corpus.

    Args:
        folds: in their order; no clip is tested twice.
        remarks: what their user should look at.
    """

    folds: tuple[Fold, ...]
    remarks: tuple[str, ...] = ()

    def usable(self, usable: Bool[np.ndarray, " clips"]) -> Folds:
        """The folds with nothing but these clips; a fold that then tests none is left out, with a remark.

        Raises:
            RequestError: if no fold is left, or one has nothing to train on.
        """
        every = [
            replace(fold, **{part: rows[usable[rows]] for part, rows in _parts(fold).items()}) for fold in self.folds
        ]
        kept = [fold for fold in every if len(fold.test)]
        gone = [fold.name for fold in every if not len(fold.test)]
        problems = [f"fold {fold.name} has no usable clip to train on" for fold in kept if not len(fold.train)]
        raise_collected("the folds cannot be used", problems or ([] if kept else ["they test no usable clip"]))
        remarks = [f"left out, since they test no usable clip: the folds {shortened(gone, 5)}"] if gone else []
        return Folds(tuple(kept), (*self.remarks, *remarks))


def number_of(rows: Iterable[int]) -> Rows:
    """Rows of clips as folds have them: ascending, none twice."""
    return np.array(sorted(set(rows)), np.int64)


def deal_folds(clips: Sequence[Clip], count: int) -> Folds:
    """Deal the speakers out to so many folds with about as many clips each.

    The one with most clips goes first, each to the fold that has fewest by then. Ids that look like one person's (`07`
    and `7`) are dealt as one.

    Args:
        clips: of all folds.
        count: folds.

    Raises:
        RequestError: if there are fewer than two folds, or fewer speakers than folds.
    """
    people = _people(clips)
    if not 2 <= count <= len(people):
        raise RequestError(
            "there are not so many folds over speakers",
            expected=f"2 to {len(people)}: each fold tests a speaker at least" if len(people) > 1 else "two speakers",
            found=f"{count} fold{'s' * (count != 1)}, {len(people)} speaker{'s' * (len(people) != 1)}",
            hint="--folds loso makes one of each speaker",
        )
    dealt: list[list[int]] = [[] for _ in range(count)]
    for name in sorted(people, key=lambda name: (-len(people[name]), _order("folds", name))):
        min(dealt, key=len).extend(people[name])
    return folds_of({str(number): rows for number, rows in enumerate(dealt, start=1)})


def leave_one_out(clips: Sequence[Clip]) -> Folds:
    """One fold for each speaker, in the order of their names.

    Raises:
        RequestError: if there are fewer than two speakers.
    """
    people = _people(clips)
    if len(people) < 2:
        raise RequestError(
            "there is nobody to train on where one speaker is left out",
            expected="two speakers at least",
            found=", ".join(people) or "no clips",
        )
    return folds_of(people)


def folds_of(tested: dict[str, list[int]], remarks: Sequence[str] = ()) -> Folds:
    """Folds that train on the test clips of all others.

    Args:
        tested: name -> rows of its test clips; no row twice.
        remarks: what their user should look at.
    """
    every = np.concatenate([number_of(rows) for rows in tested.values()])
    empty = number_of(())
    return Folds(
        tuple(
            Fold(name, number_of(rows), np.setdiff1d(every, rows).astype(np.int64), empty)
            for name, rows in tested.items()
        ),
        tuple(remarks),
    )


def check_folds(folds: Folds, clips: Sequence[Clip], where: object) -> None:
    """Check that no clip is tested twice, or trained on where it is tested.

    Args:
        folds: to be checked.
        clips: that the rows are of.
        where: what an error names: the file or folder.

    Raises:
        RequestError: if one is; all problems in one message.
    """
    problems = []
    times = Counter(row for fold in folds.folds for row in fold.test.tolist())
    twice = [row for row, count in times.items() if count > 1]
    if twice:
        names = [fold.name for fold in folds.folds if np.isin(twice, fold.test).any()]
        problems.append(f"folds {', '.join(names)} share test clips: {_listed(twice, clips)}")
    for fold in folds.folds:
        both = np.intersect1d(fold.test, np.union1d(fold.train, fold.validation)).tolist()
        if both:
            problems.append(f"fold {fold.name} trains on clips that it tests: {_listed(both, clips)}")
    raise_collected("the folds cannot be used", problems, where=where)


def hold_out(fold: Fold, clips: Sequence[Clip], turn: int = 0) -> tuple[Fold, HeldOut]:
    """Take the clips that everything is chosen by out of a fold's training clips.

    They are those of a fifth of the training speakers, drawn anew in each fold; where only one speaker is trained on, a
    fifth of the clips. A fold that comes with validation clips keeps them.

    Args:
        fold: that is to be trained.
        clips: that its rows are of.
        turn: further turns hold out others, until nobody is left who was not, and then begin again.

    Returns:
        The fold, and what its validation clips are.
    """
    if len(fold.validation):
        return fold, "files"
    people: dict[str, list[int]] = defaultdict(list)
    speakers, known = values_of(clips, "speaker"), _Persons()
    for row in fold.train.tolist():
        people[known[speakers[row]]].append(row)
    kind: HeldOut = "speakers" if len(people) > 1 else "clips"
    groups = people if len(people) > 1 else _each(clips, fold.train)
    order = sorted(groups, key=lambda name: _order(f"fold {fold.name}", name))
    count = max(1, round(VALIDATION * len(order)))
    chosen = [order[(turn * count + place) % len(order)] for place in range(count)]
    rows = number_of(row for name in chosen for row in groups[name])
    return replace(fold, train=np.setdiff1d(fold.train, rows), validation=rows), kind


def _people(clips: Sequence[Clip]) -> dict[str, list[int]]:
    """Name of each person, the first of several, -> rows; in the order of the names."""
    rows: dict[str, list[int]] = defaultdict(list)
    names: dict[str, str] = {}
    persons = _Persons()
    for row, speaker in enumerate(values_of(clips, "speaker")):
        known = persons[speaker]
        rows[known].append(row)
        names[known] = min(names.get(known, speaker), speaker)
    return {names[known]: rows[known] for known in sorted(rows, key=names.__getitem__)}


def _each(clips: Sequence[Clip], rows: Rows) -> dict[str, list[int]]:
    ids = values_of(clips, "id")
    return {ids[row]: [row] for row in rows.tolist()}


class _Persons(dict[str, str]):
    """Speaker -> what ids of that person have in common, found out once."""

    def __missing__(self, speaker: str) -> str:
        self[speaker] = person(speaker)
        return self[speaker]


def _parts(fold: Fold) -> dict[str, Rows]:
    return {"test": fold.test, "train": fold.train, "validation": fold.validation}


def _order(purpose: str, name: str) -> bytes:
    return hashlib.sha256(f"emonet {purpose}:{name}".encode("utf-8", "surrogatepass")).digest()


def _listed(rows: Sequence[int], clips: Sequence[Clip]) -> str:
    return shortened([clips[row].id for row in rows], 3)
