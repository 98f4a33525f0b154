"""Contrasts of groups: differences of their figures with intervals, and p values by permutation over speakers.

Under the null hypothesis a speaker could as well have been in another group. So speakers of one group each are dealt
to the groups anew, as many to each as before; whoever has clips in several groups swaps the groups among his own. How
often the difference is then as large as the one found, in either direction, is p (one swap is the one found: p is
never 0). Clips of a speaker stay together, since they are not independent.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from jaxtyping import Float64, Int, Shaped

from emonet.configs import EvaluationConfig
from emonet.evaluation import Estimate, independent
from emonet.protocols.audits.judging import Draws, Figures, Truth, estimates, figures
from emonet.targets import NO_CLASS

PERMUTATIONS: Final = 2_000
_ROUNDING: Final = 1e-10  # differences that differ by less count as equal


@dataclass(frozen=True)
class Contrast:
    """Groups that are compared.

    Args:
        truth: of all clips.
        scores: of all clips.
        metrics: that are compared.
        rows: of the clips that are heard, judged and in one of the groups.
        speakers: who speaks, one for each of `rows`.
        groups: number of the group of each of `rows`, from 0.
        evaluation: resamples and coverage.
        permutations: behind each p value (count).
        seed: of resamples and permutations.
    """

    truth: Truth
    scores: Float64[np.ndarray, "clips targets"]
    metrics: tuple[str, ...]
    rows: Int[np.ndarray, " rows"]
    speakers: Shaped[np.ndarray, " rows"]
    groups: Int[np.ndarray, " rows"]
    evaluation: EvaluationConfig
    permutations: int
    seed: int

    def among(self, *groups: int) -> Contrast:
        """Some of the groups, numbered anew in this order."""
        kept = np.flatnonzero(np.isin(self.groups, groups))
        numbers = np.array([groups.index(int(one)) for one in self.groups[kept]], np.int64)
        return replace(self, rows=self.rows[kept], speakers=self.speakers[kept], groups=numbers)

    @property
    def count(self) -> int:
        """Groups."""
        return int(self.groups.max()) + 1

    def speakers_of(self, group: int) -> int:
        """How many speakers a group has."""
        return len(set(self.speakers[self.groups == group].tolist()))

    @cached_property
    def draws(self) -> Draws:
        """Of speakers where each group has enough of them, else of clips; the same for all groups."""
        enough = all(
            independent(self.speakers[self.groups == group].tolist())[1] == "speakers" for group in range(self.count)
        )
        names = self.speakers if enough else self.rows.astype(str)
        drawn = Draws.of(names.tolist(), self.evaluation, self.seed)
        return Draws(drawn.weights, drawn.owner, "speakers" if enough else "clips")

    @cached_property
    def by_group(self) -> list[Figures]:
        """Figures of each group, on all of its clips and on the same resamples."""
        return [
            figures(self.truth, self.scores, self.metrics, self.rows[of], self.draws.weights, self.draws.owner[of])
            for of in (np.flatnonzero(self.groups == group) for group in range(self.count))
        ]

    def difference(self, one: int, other: int) -> dict[str, Estimate]:
        """Each metric of a group less that of another."""
        found = {name: self.by_group[one][name] - self.by_group[other][name] for name in self.metrics}
        return estimates(found, self.draws, self.evaluation)

    def p_values(self) -> dict[str, float | None]:
        """Of the largest difference between two groups, by metric; None where permutations change nothing."""
        if self.smallest_p >= 1:
            return dict.fromkeys(self.metrics)
        names = self._dealt()
        dealt = [
            figures(self.truth, self.scores, self.metrics, self.rows, (names == group).astype(np.float64), self._cells)
            for group in range(self.count)
        ]
        found: dict[str, float | None] = {}
        for metric in self.metrics:
            values = np.stack([of_group[metric] for of_group in dealt])
            ranges = np.fmax.reduce(values) - np.fmin.reduce(values)  # without groups that have nothing to judge
            known = np.isfinite(ranges[1:])
            as_large = (ranges[1:][known] >= ranges[0] - _ROUNDING).sum()
            found[metric] = float((1 + as_large) / (1 + known.sum())) if np.isfinite(ranges[0]) else None
        return found

    @cached_property
    def smallest_p(self) -> float:
        """The smallest p that so many speakers can give; 1 where nothing can be dealt otherwise.

        Deals that only rename groups make no difference: of groups with as many speakers of their own, and with the
        same speakers that are in other groups, too.
        """
        sizes = [int((self._pairs[self._alone, 1] == group).sum()) for group in range(self.count)]
        ways = math.factorial(sum(sizes)) // math.prod(math.factorial(size) for size in sizes)
        ways *= math.prod(math.factorial(len(own)) for own in self._several)
        members: list[list[int]] = [[] for _ in sizes]
        for number, own in enumerate(self._several):
            for group in self._pairs[own, 1].tolist():
                members[group].append(number)
        alike = Counter((size, tuple(of)) for size, of in zip(sizes, members, strict=True))
        same = math.prod(math.factorial(count) for count in alike.values())
        return max(1 / (1 + self.permutations), min(1.0, same / ways))

    @property
    def classes_apart(self) -> float:
        """Share of the clips that would have to be of another class for two groups to hold the same (0 to 1).

        Total variation of the two groups that differ most; 0 where there are no classes. What is hard in one group
        may only be its classes.
        """
        if self.truth.labels is None:
            return 0.0
        given, count = self.truth.labels.given[self.rows], len(self.truth.labels.classes.names)
        known = given != NO_CLASS
        counts = np.zeros((self.count, count))
        np.add.at(counts, (self.groups[known], given[known]), 1.0)
        shares = counts[counts.any(1)] / counts[counts.any(1)].sum(1, keepdims=True)
        return float(np.abs(shares[:, None] - shares[None]).sum(2).max(initial=0.0)) / 2

    @cached_property
    def _pairs(self) -> Int[np.ndarray, "cells 2"]:
        """Number of the speaker, and of the group, of each cell: a speaker's clips in one group."""
        return self._numbered[0]

    @cached_property
    def _cells(self) -> Int[np.ndarray, " rows"]:
        return self._numbered[1]

    @cached_property
    def _numbered(self) -> tuple[Int[np.ndarray, "cells 2"], Int[np.ndarray, " rows"]]:
        numbers = np.unique(self.speakers, return_inverse=True)[1]
        pairs, cells = np.unique(np.stack([numbers, self.groups], 1), axis=0, return_inverse=True)
        return pairs, cells.reshape(-1)

    @cached_property
    def _alone(self) -> Int[np.ndarray, " cells"]:
        """Cells of speakers who are in one group only."""
        counts = np.bincount(self._pairs[:, 0])
        cells: Int[np.ndarray, " cells"] = np.flatnonzero(counts[self._pairs[:, 0]] == 1)
        return cells

    @cached_property
    def _several(self) -> list[Int[np.ndarray, " groups"]]:
        """Cells of each speaker who is in several groups."""
        speakers = self._pairs[:, 0]
        return [np.flatnonzero(speakers == one) for one, n in enumerate(np.bincount(speakers)) if n > 1]

    def _dealt(self) -> Int[np.ndarray, "deals cells"]:
        """The group of each cell: as it is, then as it is dealt."""
        rng, groups = np.random.default_rng(self.seed), self._pairs[:, 1]
        names = np.tile(groups, (1 + self.permutations, 1))
        for own in (self._alone, *self._several):
            names[1:, own] = rng.permuted(names[1:, own], axis=1)
        return names
