"""Principal coordinates as files: a Zarr group of their own inside the store, `principal/FINGERPRINT/`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from cache.principal.gram import Rows
from cache.store import create_group, create_values, open_array, read_group_attributes
from emonet.errors import EmonetError
from emonet.schema import digest
from emonet.training import PrincipalBasis

PRINCIPAL = "principal"  # folder inside the store
FORMAT = "emonet-principal-coordinates"
CHUNK = (1024, 1024)  # clips and coordinates: 4 MB, read alone where only the first coordinates are wanted
COORDINATES, COEFFICIENTS, ENERGIES, SHIFT, SCALE, ROWS = (
    "coordinates", "coefficients", "energies", "shift", "scale", "rows",
)  # fmt: skip
_SEAL = "digest"  # attribute: SHA-256 over the others
_FLAT = 1 << 20  # values of a chunk of one dimension

# What zarr raises over bytes that are not what was written.
_DAMAGED = (OSError, ValueError, RuntimeError, KeyError, TypeError, IndexError)


def write(
    folder: Path,
    about: Mapping[str, Any],
    basis: PrincipalBasis,
    rows: Rows,
    coordinates: Iterable[tuple[slice, Float32[np.ndarray, "part rank"]]],
    clips: int,
) -> None:
    """Make the group at `folder`, which must not exist.

    Args:
        folder: where.
        about: attributes; what else `read` needs is added.
        basis: with all its directions.
        rows: of its clips in the store.
        coordinates: of the store's clips, `CHUNK[0]` at a time, not divided by the unit.
        clips: of the store.
    """
    facts = {
        **about,
        "format": FORMAT,
        "clips": clips,
        "training_clips": basis.clips,
        "basis_clips": len(rows),
        "rank": basis.rank,
        "features": len(basis.shift),
        "total_energy": basis.total_energy,
        "energy_share": basis.energy_share,
        "unit": basis.unit,
    }
    create_group(folder, {**facts, _SEAL: digest(facts)})
    flat = {ENERGIES: basis.energies, SHIFT: basis.shift, SCALE: basis.scale}
    for name, tensor in flat.items():
        create_values(folder, name, tuple(tensor.shape), (_FLAT,), "float32")[:] = tensor.numpy()
    create_values(folder, ROWS, rows.shape, (_FLAT,), "int64")[:] = rows
    shape = tuple(basis.coefficients.shape)
    create_values(folder, COEFFICIENTS, shape, CHUNK, "float32")[:] = basis.coefficients.numpy()
    array = create_values(folder, COORDINATES, (clips, basis.rank), CHUNK, "float32")
    for part, values in coordinates:
        array[part] = values


def read(folder: Path, fingerprint: str) -> tuple[PrincipalBasis, Rows]:
    """The basis, and the rows of its clips in the store.

    Raises:
        EmonetError: if something there is damaged or missing, or it is another one.
    """
    with _readable(folder):
        about = attributes(folder)
        if about["fingerprint"] != fingerprint:
            raise ValueError(f"fingerprint {about['fingerprint']}, expected {fingerprint}")
        rank, features, basis = about["rank"], about["features"], about["basis_clips"]
        values = {
            name: _whole(folder, name, shape)
            for name, shape in {
                ENERGIES: (rank,), SHIFT: (features,), SCALE: (features,), COEFFICIENTS: (basis, rank), ROWS: (basis,)
            }.items()
        }  # fmt: skip
        rows = values.pop(ROWS)
        if (rows < 0).any():
            raise ValueError(f"a chunk of {ROWS} is missing")
        tensors = {name: torch.from_numpy(array) for name, array in values.items()}
        return PrincipalBasis(**tensors, total_energy=about["total_energy"], clips=about["training_clips"]), rows


def read_coordinates(
    folder: Path, rank: int, usable: Rows, clips: int, parts: Sequence[Rows]
) -> list[Float32[np.ndarray, "_ rank"]]:
    """The first `rank` coordinates of each clip in some parts of the store, not divided by the unit; in one pass.

    Args:
        folder: where they are.
        rank: how many of each.
        usable: rows of clips that have some, ascending; the others' are NaN.
        clips: of the store (count).
        parts: rows of the store, ascending.

    Raises:
        EmonetError: if something there is damaged or missing.
    """
    with _readable(folder):
        array = open_array(folder, COORDINATES)
        if array.ndim != 2 or array.shape[0] != clips or array.shape[1] < rank:
            raise ValueError(f"{COORDINATES} of shape {array.shape}")
        values = [np.empty((len(rows), rank), np.float32) for rows in parts]
        for first in range(0, clips, CHUNK[0]):  # what is wanted is never in memory twice
            part = np.asarray(array[first : first + CHUNK[0], :rank])
            known = usable[slice(*np.searchsorted(usable, (first, first + CHUNK[0])))]
            if not np.isfinite(part[known - first]).all():
                raise ValueError(f"a chunk of {COORDINATES} is missing")
            for rows, into in zip(parts, values, strict=True):
                here = slice(*np.searchsorted(rows, (first, first + CHUNK[0])))
                into[here] = part[rows[here] - first]
        return values


def attributes(folder: Path) -> dict[str, Any]:
    """What the group says about itself.

    Raises:
        OSError: if there is none.
        ValueError: if it is damaged.
    """
    about = read_group_attributes(folder)
    seal = about.pop(_SEAL, None)
    if seal != digest(about) or about.get("format") != FORMAT:
        raise ValueError("its attributes are not what was written")
    return about


def listed(path: Path, fingerprint: str) -> list[str]:
    """A line for each basis that is kept in the store at `path`, whose fingerprint is this one now."""
    lines = []
    for folder in sorted((path / PRINCIPAL).glob("*")):
        try:
            about = attributes(folder)
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            lines.append(
                f"{about['rank']:,} coordinates{' of standardised states' if about['standardise'] else ''}"
                f"{_some(about)}, {about['energy_share']:.1%} of the energy, {size / 1e6:,.1f} MB"
                + ("" if about["store"] == fingerprint else f"; out of date, {folder} can be deleted")
            )
        except _DAMAGED:
            lines.append(f"damaged: delete {folder}")
    return lines


def _some(about: Mapping[str, Any]) -> str:
    """` for 1,440 of 1,760 clips`, where it is not for all that have states."""
    have = about.get("with_coordinates")
    return "" if have is None else f" for {have:,} of {about['clips']:,} clips"


def _whole(folder: Path, name: str, shape: tuple[int, ...]) -> np.ndarray:
    array = open_array(folder, name)
    if array.shape != shape:
        raise ValueError(f"{name} of shape {array.shape}, expected {shape}")
    values = np.asarray(array[...])
    if not np.isfinite(values).all():
        raise ValueError(f"a chunk of {name} is missing")
    return values


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        raise EmonetError(
            "the principal coordinates kept in the store cannot be read",
            where=folder,
            found=error,
            hint="delete this folder: they are computed again",
        ) from error
