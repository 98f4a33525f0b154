"""Gram matrix: inner products of a store's clips with some of them, the basis, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Float16, Float32, Int64
from torch import Tensor

from cache.store import FeatureStore
from emonet.runtime import Arithmetic, Progress
from emonet.training import Standardised, gram, inner_products

READ_CLIPS = 64  # clips read at once into memory that holds all
_HELD = 0.75  # of the memory: for basis clips, which others are read past

Rows = Int64[np.ndarray, " _"]


@final
class ClipReader:
    """Clips of a store, in an order of one's own: held in memory if they fit, else read whenever they are asked for.

    Args:
        store: where they are.
        order: rows of the store, each once.
        memory_bytes: for states; two clips are the least, `capacity`.
    """

    def __init__(self, store: FeatureStore, order: Rows, memory_bytes: float) -> None:
        self._store, self._order = store, order
        self.capacity = max(2, int(memory_bytes / store.clip_bytes))
        self._places = np.full(len(store), -1, np.int64)
        self._places[order] = np.arange(len(order))
        self._held: Float16[np.ndarray, "clips frames width"] | None = None

    @property
    def fits(self) -> bool:
        """Whether memory holds all clips."""
        return len(self._order) <= self.capacity

    @property
    def held(self) -> int:
        """Clips to hold while others are read past them, if not all fit (count)."""
        return len(self._order) if self.fits else max(1, int(_HELD * self.capacity))

    @property
    def passing(self) -> int:
        """Clips to read past them at a time (count)."""
        return len(self._order) if self.fits else self.capacity - self.held

    def load(self, progress: Progress) -> None:
        """Read all clips, if they fit."""
        if not self.fits:
            return
        held = np.empty((len(self._order), *self._store.record.shape[1:]), np.float16)
        progress(0, len(held))
        for start in range(0, len(held), READ_CLIPS):
            part = held[start : start + READ_CLIPS]
            self._store.read(self._order[start : start + READ_CLIPS], out=part)
            progress(start + len(part), len(held))
        self._held = held

    def release(self) -> None:
        """Free the memory of the clips."""
        self._held = None

    def span(self, start: int, stop: int) -> Float16[Tensor, "clips features"]:
        """Clips at these places of the order."""
        states = self._store.read(self._order[start:stop]) if self._held is None else self._held[start:stop]
        return torch.from_numpy(states).flatten(1)

    def states(self, rows: Rows) -> Float16[Tensor, "clips frames width"]:
        """Clips at these rows of the store, all of the order."""
        states = self._store.read(rows) if self._held is None else self._held[self._places[rows]]
        return torch.from_numpy(states)


@final
class Products:
    """Inner products of all clips with the basis clips; those of the others lie in files until they are asked for.

    Args:
        clips: in order, the basis clips first.
        order: their rows of the store; those of the basis ascend, and so do the others.
        basis: how many are basis clips.
        shift: subtracted from each feature.
        scale: by which it is then divided.
        arithmetic: of the products.
        folder: for files of 4 bytes a product; may vanish when this is no longer needed.
    """

    def __init__(
        self,
        clips: ClipReader,
        order: Rows,
        basis: int,
        shift: Float32[Tensor, " features"],
        scale: Float32[Tensor, " features"],
        arithmetic: Arithmetic,
        folder: Path,
    ) -> None:
        self._clips, self._basis, self._others = clips, order[:basis], order[basis:]
        self._shift, self._scale, self._arithmetic = shift, scale, arithmetic
        self._folder = folder
        self.gram: Float32[Tensor, "basis basis"] = torch.zeros(basis, basis)

    def compute(self, progress: Progress) -> None:
        """Compute them: tiles of basis clips are held, and all clips behind them are read past each."""
        basis = len(self._basis)
        total = sum(basis + len(self._others) - tile.start for tile in self._tiles())
        progress(0, total)
        done = 0
        for tile in self._tiles():
            held = self._standardised(tile)
            # Clips that are in memory go with the tile, which then need not be standardised once more for them.
            near = slice(basis, basis + len(self._others) if self._clips.fits else basis)
            self.gram[tile, tile], first = gram(held, self._standardised(near), self._arithmetic)
            done += len(held) + len(first)
            progress(done, total)
            for span in spans(tile.stop, basis, self._clips.passing):
                products = inner_products(self._standardised(span), held, self._arithmetic)
                self.gram[span, tile], self.gram[tile, span] = products, products.T
                done += len(products)
                progress(done, total)
            with self._file(tile).open("wb") as file:
                file.write(first.numpy().tobytes())
                for span in spans(near.stop, basis + len(self._others), self._clips.passing):
                    products = inner_products(self._standardised(span), held, self._arithmetic)
                    file.write(products.numpy().tobytes())
                    done += len(products)
                    progress(done, total)
        progress(total, total)

    def of(self, rows: Rows) -> Float32[Tensor, "rows basis"]:
        """Products of clips, whose rows of the store ascend, with the basis clips."""
        products = torch.empty(len(rows), len(self._basis))
        in_basis = np.isin(rows, self._basis)
        own = np.searchsorted(self._basis, rows[in_basis])
        products[torch.from_numpy(in_basis)] = self.gram[torch.from_numpy(own)]
        others = np.searchsorted(self._others, rows[~in_basis])
        if len(others):
            products[torch.from_numpy(~in_basis)] = self._read(others)
        return products

    def _read(self, places: Rows) -> Float32[Tensor, "rows basis"]:
        first, count = int(places[0]), int(places[-1] - places[0]) + 1
        tiles = []
        for tile in self._tiles():
            width = tile.stop - tile.start
            part = np.fromfile(self._file(tile), np.float32, count * width, offset=4 * first * width)
            tiles.append(part.reshape(count, width)[places - first])
        return torch.from_numpy(np.concatenate(tiles, axis=1))

    def _tiles(self) -> list[slice]:
        return list(spans(0, len(self._basis), self._clips.held))

    def _standardised(self, places: slice) -> Standardised:
        return Standardised(self._clips.span(places.start, places.stop), self._shift, self._scale)

    def _file(self, tile: slice) -> Path:
        return self._folder / f"products-{tile.start}.f32"


def spans(start: int, stop: int, step: int) -> Iterator[slice]:
    """Slices of `step` from `start` to `stop`; the last may be shorter."""
    for first in range(start, stop, max(1, step)):
        yield slice(first, min(first + step, stop))
