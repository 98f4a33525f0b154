"""Cache of prepared inputs, in memory between trainings that differ in other things.

kept = KeptInputs(limit_gib=4.0)
for config in configs:
    train_experts(TrainingRequest(store, spec, targets, config, seed=0), watch, kept)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Float32

from cache.principal import PrincipalStates, principal
from cache.store import FeatureStore
from datamodules.expert_inputs import GIB, Inputs, given_inputs, held_bytes, read_inputs
from emonet.clips import Split
from emonet.configs import HeadsConfig
from emonet.experts import InputSpec
from emonet.runtime import ShowProgress


@final
class KeptInputs:
    """Makes inputs, and keeps those that were used last.

    Inputs do not depend on what was made before: a training on kept ones gives the same as one on fresh ones.

    Args:
        limit_gib: most that is kept; with 0 nothing is (GiB).
    """

    def __init__(self, limit_gib: float = 0.0) -> None:
        self._limit = int(limit_gib * GIB)
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Memory that is taken by what is kept (bytes)."""
        return sum(size for _, size in self._kept.values())

    def states(self, store: FeatureStore, spec: InputSpec, *, memory_gib: float, show: ShowProgress) -> Inputs:
        """Training and validation clips as `read_inputs` gives them.

        Args:
            store: where the states are.
            spec: the form of the input.
            memory_gib: up to this size they are held; beyond it the store is read in each epoch (GiB).
            show: opens a progress callback.
        """

        def make() -> Inputs:
            with show(f"reading states ({spec.form})", "clips") as progress:
                return read_inputs(store, spec, memory_gib=memory_gib, progress=progress)

        size = held_bytes(store, spec)
        streamed = size > memory_gib * GIB
        key = (store.fingerprint, store.division, spec, streamed, memory_gib)
        inputs: Inputs = self._get(key, 0 if streamed else size, make)
        return inputs

    def coordinates(
        self, store: FeatureStore, config: HeadsConfig, splits: Sequence[Split], *, seed: int, show: ShowProgress
    ) -> tuple[PrincipalStates, Inputs]:
        """Principal coordinates of `config.rank`: what they mean, and the clips of some splits in them.

        All ranks share one array.

        Args:
            store: where the states are.
            config: rank, standardise and memory.
            splits: whose clips are wanted, training and validation among them.
            seed: of the landmarks.
            show: opens a progress callback.
        """
        standardise = bool(config.standardise)
        key = (store.fingerprint, store.division, standardise, seed, tuple(splits))
        known = self._known(key)
        if known is None:
            self._make_room(self._limit)  # making coordinates takes memory of its own
            states = principal(
                store,
                standardise=standardise,
                memory_gib=config.states_gib,
                seed=seed,
                show=show,
                splits=splits,
                rank=config.rank,
            )
            known = _Coordinates.read(states, splits, config, self._limit)
            if known.states is states:  # all of them
                self._keep(key, known, known.nbytes)
        states = known.states.of(config.rank)
        rank, unit = states.basis.rank, np.float32(states.basis.unit)
        parts = {split: part[:, :rank] for split, part in known.undivided.items()}
        shared = key in self._kept  # with other ranks; else they need not be in memory twice
        values = {split: np.divide(part, unit, out=None if shared else part) for split, part in parts.items()}
        return states, given_inputs(store, InputSpec("flatten", "all", 1, rank), values)

    def _known(self, key: Hashable) -> Any:
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def _get(self, key: Hashable, size: int, make: Callable[[], Any]) -> Any:
        known = self._known(key)
        if known is None:
            self._make_room(size)  # before it is made, so that memory does not hold both
            known = make()
            self._keep(key, known, size)
        return known

    def _keep(self, key: Hashable, made: Any, size: int) -> None:
        if size <= self._limit:
            self._make_room(size)
            self._kept[key] = (made, size)

    def _make_room(self, size: int) -> None:
        """Let go of what was not used for longest."""
        while self._kept and self.nbytes + size > self._limit:
            self._kept.popitem(last=False)


@dataclass(frozen=True)
class _Coordinates:
    """Coordinates of some splits before they are divided by the unit, and what they mean."""

    states: PrincipalStates
    undivided: Mapping[Split, Float32[np.ndarray, "_ rank"]]

    @classmethod
    def read(cls, states: PrincipalStates, splits: Sequence[Split], config: HeadsConfig, limit: int) -> _Coordinates:
        """All of them if the limit allows, else those of the configured rank."""
        basis = states.basis
        size = 4 * basis.rank * (len(states.store) + len(states.rows)) + 8 * len(basis.shift)
        if size > limit:
            states = states.of(config.rank)
        parts = states.undivided([states.store.rows(split) for split in splits])
        return cls(states, dict(zip(splits, parts, strict=True)))

    @property
    def nbytes(self) -> int:
        basis = self.states.basis
        tensors = (basis.shift, basis.scale, basis.coefficients, basis.energies)
        return sum(part.nbytes for part in self.undivided.values()) + sum(tensor.nbytes for tensor in tensors)
