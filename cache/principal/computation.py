"""Computation of principal coordinates: measure a store's clips, multiply them with a basis, find the directions."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from cache.principal import basis_files
from cache.principal.basis_files import CHUNK, PRINCIPAL
from cache.principal.gram import ClipReader, Products, Rows, spans
from cache.store import FeatureStore
from emonet.errors import EmonetError
from emonet.experts import InputSpec, ScalingMeter
from emonet.runtime import Arithmetic, Progress, ShowProgress, durable
from emonet.training import PrincipalBasis, decompose, projected, rotate

VERSION = 1  # of the algorithm: part of the fingerprint
GROUP = "group"  # in the folder of a computation: what it makes
RESERVE = 64 << 20  # bytes left free on the disk
_SCRATCH = "scratch"  # beside it: inner products, until it is done
_MEASURED = 16  # clips measured at once


@dataclass(frozen=True)
class Plan:
    """What is to be computed; `train`, `rows` (of the basis) and `clips` (that get coordinates) ascend."""

    store: FeatureStore
    standardise: bool
    train: Rows
    rows: Rows
    clips: Rows
    fingerprint: str

    @property
    def folder(self) -> Path:
        """Where the coordinates are kept."""
        return self.store.home / PRINCIPAL / self.fingerprint[:16]


@final
class Computation:
    """Makes the coordinates of one plan.

    Args:
        plan: what is to be computed.
        fresh: the folder to make.
        arithmetic: of the products.
        memory_bytes: for states.
        show: opens a progress callback for each pass.
    """

    def __init__(
        self, plan: Plan, fresh: Path, arithmetic: Arithmetic, memory_bytes: float, show: ShowProgress
    ) -> None:
        self._plan, self._store, self._fresh = plan, plan.store, fresh
        self._arithmetic, self._show = arithmetic, show
        self._order = np.concatenate([plan.rows, np.setdiff1d(plan.clips, plan.rows)])
        self._clips = ClipReader(self._store, self._order, memory_bytes)

    def run(self) -> None:
        """Fill the fresh folder, and see to it that it is on disk."""
        self._check_space()
        scratch = self._fresh / _SCRATCH
        scratch.mkdir(parents=True)
        if self._clips.fits:
            with self._show("reading states", "clips") as progress:
                self._clips.load(progress)
        with self._show("measuring states", "clips") as progress:
            shift, scale, total_energy = self._measure(progress)
        count = len(self._plan.rows)
        products = Products(self._clips, self._order, count, shift, scale, self._arithmetic, scratch)
        with self._show("inner products", "clips") as progress:
            products.compute(progress)
        self._clips.release()
        coefficients, energies = self._directions(products)
        train = len(self._plan.train)
        basis = PrincipalBasis(shift, scale, coefficients.float(), energies.float(), total_energy, train)
        about = {
            "fingerprint": self._plan.fingerprint,
            "store": self._store.fingerprint,
            "version": VERSION,
            "standardise": self._plan.standardise,
            "arithmetic": self._arithmetic,
        }
        if self._store.division:
            about["division"] = self._store.division
        if len(self._plan.clips) < len(self._store.rows()):
            about["with_coordinates"] = len(self._plan.clips)
        with self._show("principal coordinates", "clips") as progress:
            parts = self._coordinates(products, basis, progress)
            basis_files.write(self._fresh / GROUP, about, basis, self._plan.rows, parts, len(self._store))
        for file in self._fresh.joinpath(GROUP).rglob("*"):
            if file.is_file():
                durable.sync_up_to(file, self._fresh)

    def _measure(self, progress: Progress) -> tuple[Tensor, Tensor, float]:
        """Shift, scale and the total energy."""
        frames, width = self._store.record.shape[1:]
        spec, train = InputSpec("flatten", "all", frames, width), self._plan.train
        meter = ScalingMeter(spec)
        progress(0, len(train))
        for span in spans(0, len(train), min(_MEASURED, self._clips.capacity)):
            states = self._clips.states(train[span])
            meter.update(spec.prepare(states, torch.full((len(states),), frames)))
            progress(span.stop, len(train))
        variance = meter.variance()
        if not variance.isfinite().all():
            self._name_unfinite(train)
        scaling = meter.scaling()
        scale = scaling.scale if self._plan.standardise else torch.ones_like(scaling.scale)
        return scaling.shift, scale, len(train) * float((variance / scale.double().square()).sum())

    def _name_unfinite(self, rows: Rows) -> None:
        for row in rows:
            if not self._clips.states(np.array([row])).isfinite().all():
                raise EmonetError(
                    f"the states of clip {str(self._store.clips['id'].iloc[row])!r} are not finite",
                    where=f"{self._store.path}, row {row}",
                    hint=f"emonet store verify {self._store.path} --deep",
                )

    def _directions(self, products: Products) -> tuple[Tensor, Tensor]:
        coefficients, energies = decompose(products.gram)
        if len(self._plan.rows) == len(self._plan.train):
            return coefficients, energies
        covariance = torch.zeros(len(energies), len(energies), dtype=coefficients.dtype)
        for start in range(0, len(self._plan.train), CHUNK[0]):
            scores = projected(products.of(self._plan.train[start : start + CHUNK[0]]), coefficients)
            covariance.addmm_(scores.T, scores)
        return rotate(coefficients, covariance)

    def _coordinates(
        self, products: Products, basis: PrincipalBasis, progress: Progress
    ) -> Iterator[tuple[slice, Float32[np.ndarray, "part rank"]]]:
        """Coordinates before they are divided by the unit, so that it can be that of fewer of them."""
        usable, clips = self._plan.clips, len(self._store)
        progress(0, clips)
        for start in range(0, clips, CHUNK[0]):
            stop = min(start + CHUNK[0], clips)
            rows = usable[np.searchsorted(usable, start) : np.searchsorted(usable, stop)]
            values = np.full((stop - start, basis.rank), np.nan, np.float32)
            values[rows - start] = projected(products.of(rows), basis.coefficients).float().numpy()
            if not np.isfinite(values[rows - start]).all():
                self._name_unfinite(rows)
            yield slice(start, stop), values
            progress(stop, clips)
        progress(clips, clips)

    def _check_space(self) -> None:
        basis, clips = len(self._plan.rows), len(self._store)
        features = self._store.record.frames * self._store.record.width
        needed = 4 * (basis * (clips + len(self._order)) + 2 * features)
        free = shutil.disk_usage(self._fresh.parent).free
        if needed + RESERVE > free:
            raise EmonetError(
                "the disk has too little space for the principal coordinates",
                where=self._store.path,
                expected=f"{(needed + RESERVE) / 1e9:.2f} GB free, for the inner products of {len(self._order):,} "
                f"clips with each of the basis' {basis:,}, and {basis:,} coordinates of {clips:,} clips",
                found=f"{free / 1e9:.2f} GB",
                hint="free some space; or --heads.inputs statistics; or --heads.features states",
            )
