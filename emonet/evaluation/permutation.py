"""Paired permutation tests: could two models' errors have been swapped, and their difference still be as large?

Under the null hypothesis it does not matter which model made which of the two errors on a clip. So the two are swapped
at random, for whole speakers (clips of one speaker are not independent), and the difference of the mean errors is
taken again: p is the share of swaps whose difference is at least as large as the one found, in either direction
(Pitman 1937; Good 2005). Where there are no more than the allowed number of swaps, all are made and p is exact.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Float64, Int
from pydantic import Field

from emonet.evaluation.results import Unit
from emonet.schema import Schema

_BLOCK = 1 << 21  # signs (swaps x units) and differences (swaps x columns) worked on at once: 16 MiB of float64
_ROUNDING = 1e-10  # differences that differ by less, relative to the largest possible one, count as equal


class SwapTest(Schema):
    """How the p values of a comparison were made, and how small they can become."""

    unit: Unit
    """What is swapped as a whole."""
    units: int = Field(ge=0)
    """How many of them have scores (count)."""
    exact: bool
    """Whether every possible swap was made."""
    permutations: int = Field(ge=1)
    """Swaps behind each p value (count)."""
    smallest_p: float = Field(ge=0, le=1)
    """The smallest p value of the mean that so many units and swaps can give."""
    tests: int = Field(ge=0)
    """Emotions over which p values are corrected (count)."""
    smallest_corrected: float = Field(ge=0, le=1)
    """The smallest p value of an emotion after Holm's correction."""

    def confirms(self, alpha: float) -> bool:
        """Whether a p value of the mean can be as small as `alpha` (0 to 1) at all."""
        return self.smallest_p <= alpha

    def confirms_emotions(self, alpha: float) -> bool:
        """Whether a corrected p value of a single emotion can be as small as `alpha` (0 to 1) at all."""
        return self.smallest_corrected <= alpha


def describe(
    unit: Unit, owner: Int[np.ndarray, " clips"], truth: Float[np.ndarray, "clips targets"], permutations: int
) -> SwapTest:
    """What a test of these clips will be able to say.

    Args:
        unit: what is swapped as a whole.
        owner: number of the unit of each clip.
        truth: scores, NaN where nobody rated.
        permutations: most swaps to make (count).
    """
    rated = ~np.isnan(truth)
    exact = _enumerable(int(owner.max()) + 1, permutations)
    made = 1 << int(owner.max()) if exact else permutations

    def smallest(units: int) -> float:
        return max(2.0 ** (1 - max(units, 1)), 0.0 if exact else 1 / (1 + permutations))

    # The mean is swapped by everybody who has a score for any emotion, an emotion by those who have one for it.
    units = len(np.unique(owner[rated.any(1)]))
    of_emotion = max((len(np.unique(owner[column])) for column in rated.T), default=0)
    tests = int(rated.any(0).sum())
    return SwapTest(
        unit=unit,
        units=units,
        exact=exact,
        permutations=made,
        smallest_p=smallest(units),
        tests=tests,
        smallest_corrected=min(1.0, smallest(of_emotion) * max(tests, 1)),
    )


def swapped(
    differences: Float[np.ndarray, "clips targets"],
    owner: Int[np.ndarray, " clips"],
    *,
    permutations: int,
    seed: int,
) -> Float64[np.ndarray, " targets_and_mean"]:
    """P values of mean differences of errors, two-sided.

    Args:
        differences: error of one model less that of another, on each clip; NaN where nobody rated.
        owner: number of the unit (from 0) that each clip belongs to; the clips of a unit are swapped together.
        permutations: most swaps to make (count); no more than there are.
        seed: of the swaps.

    Returns:
        One p value per target, and last that of the mean over targets; NaN where nobody rated.
    """
    sums = _unit_sums(differences, owner)
    units, targets = sums.shape
    found = np.abs(sums.sum(0))
    bound = found - _ROUNDING * np.abs(sums).sum(0)
    as_large, made = np.zeros(targets), 0
    for signs in _signs(units, permutations, seed, max(1, _BLOCK // max(units, targets))):
        as_large += (np.abs(signs @ sums) >= bound).sum(0)
        made += len(signs)
    p = as_large / made if _enumerable(units, permutations) else (1 + as_large) / (1 + made)
    return np.where(np.isnan(found), np.nan, p)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P values corrected for being several (Holm 1979); None stays None and does not count."""
    present = [(p, position) for position, p in enumerate(p_values) if p is not None]
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, position) in enumerate(sorted(present)):
        largest = max(largest, min(1.0, p * (len(present) - rank)))
        corrected[position] = largest
    return corrected


def _unit_sums(
    differences: Float[np.ndarray, "clips targets"], owner: Int[np.ndarray, " clips"]
) -> Float64[np.ndarray, "units targets_and_mean"]:
    """What each unit adds to each mean difference; a swap of the unit turns its sign."""
    rated = (~np.isnan(differences)).sum(0)
    sums = np.zeros((int(owner.max()) + 1, differences.shape[1]))
    np.add.at(sums, owner, np.nan_to_num(differences.astype(np.float64)))
    with np.errstate(invalid="ignore"):
        sums /= np.where(rated == 0, np.nan, rated)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)  # nobody rated anything: NaN
        return np.concatenate([sums, np.nanmean(sums, axis=1, keepdims=True)], axis=1)


def _enumerable(units: int, permutations: int) -> bool:
    return units < 63 and 1 << units <= permutations


def _signs(units: int, permutations: int, seed: int, rows: int) -> Iterator[Float64[np.ndarray, "swaps units"]]:
    """Blocks of +1 and -1 per unit: all different ones, or as many random ones.

    Swapping everything only turns the sign of a difference, whose size is what counts: of all swaps one half is enough.
    """
    exact = _enumerable(units, permutations)
    total = 1 << (units - 1) if exact else permutations
    rng = np.random.default_rng(seed)
    for start in range(0, total, rows):
        count = min(rows, total - start)
        if exact:
            bits = (np.arange(start, start + count)[:, None] >> np.arange(units)) & 1
        else:
            bits = rng.integers(0, 2, (count, units), dtype=np.int8)
        yield 1.0 - 2.0 * bits
