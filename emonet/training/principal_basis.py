"""The principal basis: fewer training clips than features, so that a first layer sees them through few numbers.

Every gradient of a first layer lies in the span of the training clips X (centred, `clips features`). Their Gram matrix
X Xt = U S Ut gives coordinates U sqrt(S), which hold all that any first layer can use: distances and inner products are
the same, so a training in coordinates is the training in features. A new clip x has coordinates K(x, X) U / sqrt(S),
and weights on coordinates are lifted back to features by W Ut / sqrt(S) X.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from emonet.errors import RequestError

Rank = int | float | Literal["all"]
"""How many coordinates: a count, the least that hold a share of the energy (0 to 1), or all there are."""

CUT = 1e-6  # of the largest eigenvalue: below it the coordinates' own rounding (float32) is as large as they are
ROUNDING = 2.0**-20  # of the clips' mean squared length: error of an inner product
EXACT = 4096  # basis clips up to which float64 is used: 13 times the work of a product of this size, a minute or so


@dataclass(frozen=True)
class PrincipalBasis:
    """Directions in the space of features, as combinations of clips, the strongest first.

    Args:
        shift: subtracted from each feature, `features`.
        scale: by which each is then divided, `features`.
        coefficients: combination of basis clips that makes each direction a unit vector, `basis rank`.
        energies: sum of the squares of each coordinate over the training clips, descending, `rank`.
        total_energy: sum of the squares of all features, centred and scaled, over the training clips.
        clips: training clips (count).
    """

    shift: Float32[Tensor, " features"]
    scale: Float32[Tensor, " features"]
    coefficients: Float32[Tensor, "basis rank"]
    energies: Float32[Tensor, " rank"]
    total_energy: float
    clips: int

    @property
    def rank(self) -> int:
        """Coordinates of a clip (count)."""
        return len(self.energies)

    @property
    def unit(self) -> float:
        """What coordinates are divided by: their mean variance over the training clips is then 1, at every rank."""
        return math.sqrt(float(self.energies.double().sum()) / (self.clips * self.rank))

    @property
    def energy_share(self) -> float:
        """Energy of the training clips that the coordinates hold, of all there is (0 to 1)."""
        return min(1.0, float(self.energies.double().sum()) / self.total_energy)

    def kept(self, rank: Rank) -> int:
        """How many of the coordinates `rank` means.

        Raises:
            RequestError: if there are not so many, or they do not hold such a share of the energy.
        """
        if rank == "all":
            return self.rank
        if isinstance(rank, float):
            return self._holding(rank)
        if not 1 <= rank <= self.rank:
            raise RequestError(
                "there are not so many principal coordinates",
                expected=f"1 to {self.rank}, of {len(self.coefficients)} basis clips",
                found=rank,
                hint="rank all, or more training clips",
            )
        return rank

    def truncated(self, rank: Rank) -> PrincipalBasis:
        """The strongest directions alone; their coordinates differ by their `unit` only.

        Raises:
            RequestError: as `kept`.
        """
        kept = self.kept(rank)
        return replace(self, coefficients=self.coefficients[:, :kept], energies=self.energies[:kept])

    def coordinates(self, products: Float[Tensor, "clips basis"]) -> Float32[Tensor, "clips rank"]:
        """Coordinates of clips out of their inner products with the basis clips."""
        return projected(products, self.coefficients).div_(self.unit).float()

    def combination(self, weights: Float[Tensor, "rows rank"]) -> Float32[Tensor, "rows basis"]:
        """What to multiply the standardised basis clips with to get these weights on standardised features."""
        return projected(weights, self.coefficients.T).div_(self.unit).float()

    def _holding(self, share: float) -> int:
        if not 0 < share < 1:
            raise RequestError("no share of the energy", expected="more than 0, less than 1", found=share)
        held = self.energies.double().cumsum(0)
        wanted = share * self.total_energy
        if wanted > float(held[-1]) and self.energy_share < 1 - 1e-3:
            raise RequestError(
                "the principal coordinates do not hold so much of the energy",
                expected=f"up to {self.energy_share:.4f}, by all {self.rank}",
                found=share,
                hint="rank all, or more basis clips",
            )
        return min(self.rank, int((held < wanted).sum()) + 1)


def decompose(gram: Float32[Tensor, "basis basis"]) -> tuple[Tensor, Tensor]:
    """Directions out of the basis clips' inner products.

    Eigenvalues are cut where they are noise. Centring makes one of them zero; it comes out as about the norm of a
    random matrix of the products' errors, 2 sqrt(clips) times one of them, and its coordinates would be noise blown up.

    Returns:
        Coefficients, `basis rank`, and eigenvalues, `rank`, descending.

    Raises:
        RequestError: if nothing is left, since all clips are the same.
    """
    values, vectors = _descending(gram.to(_working(len(gram))))
    error = 2 * math.sqrt(len(gram)) * ROUNDING * float(gram.diagonal().double().mean())
    rank = int((values > max(CUT * float(values[0]), error)).sum())
    if rank == 0:
        raise RequestError("the training clips' states are all the same, so nothing can be learned from them")
    return vectors[:, :rank].div_(values[:rank].sqrt()), values[:rank]


def rotate(coefficients: Float[Tensor, "basis rank"], covariance: Float[Tensor, "rank rank"]) -> tuple[Tensor, Tensor]:
    """Turn directions so that the coordinates of all training clips, not of the basis clips alone, are uncorrelated.

    Args:
        coefficients: of the directions.
        covariance: sums of the products of the training clips' coordinates.

    Returns:
        Coefficients, `basis rank`, and the energy of each over the training clips, `rank`, descending.
    """
    values, vectors = _descending(covariance.to(coefficients.dtype))
    return coefficients @ vectors, values.clamp(min=0)


def projected(left: Float[Tensor, "rows inner"], right: Float[Tensor, "inner columns"]) -> Tensor:
    """Their product, in float64 unless it is large: weak directions are differences of large numbers."""
    dtype = _working(max(right.shape))
    return left.to(dtype) @ right.to(dtype)


def _working(basis: int) -> torch.dtype:
    return torch.float64 if basis <= EXACT else torch.float32


def _descending(symmetric: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and -vectors, the largest first; the largest element of each vector is positive."""
    values, vectors = torch.linalg.eigh(symmetric)
    values, vectors = values.flip(0), vectors.flip(1)
    upwards = vectors.amax(0) + vectors.amin(0) >= 0
    return values, vectors.mul_(torch.where(upwards, 1, -1))
