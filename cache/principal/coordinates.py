"""Principal coordinates of a store's flattened states: computed once and kept inside the store.

states = principal(store, standardise=True, memory_gib=8, seed=0, show=console.progress)
train = states.of(0.99).coordinates[store.rows("train")]
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from glob import escape
from pathlib import Path

import numpy as np
from filelock import FileLock
from jaxtyping import Float32

from cache.principal import basis_files
from cache.principal.basis_files import PRINCIPAL
from cache.principal.computation import GROUP, VERSION, Computation, Plan
from cache.principal.gram import Rows
from cache.principal.memory import GIB, require_memory, require_readable
from cache.store import FeatureStore
from emonet.clips import SPLITS, Split
from emonet.errors import EmonetError, RequestError
from emonet.runtime import Arithmetic, ShowProgress, durable, generator
from emonet.schema import digest
from emonet.training import PrincipalBasis, Rank, arithmetic_for

MOST = 20_000  # training clips up to which each is a basis clip: their products take 1.6 GB
LANDMARKS = 8192  # basis clips that are drawn from more
_UNFINISHED = ".unfinished"  # ending of folders beside the store


@dataclass(frozen=True)
class PrincipalStates:
    """A store's clips in principal coordinates.

    Args:
        store: whose clips they are.
        folder: where they are kept.
        fingerprint: SHA-256 over the store's fingerprint, the clips they were made from and the algorithm.
        basis: what the coordinates mean.
        rows: of the basis clips in the store, ascending.
        clips: rows of the clips that have coordinates, ascending.
    """

    store: FeatureStore
    folder: Path
    fingerprint: str
    basis: PrincipalBasis
    rows: Rows
    clips: Rows

    @cached_property
    def coordinates(self) -> Float32[np.ndarray, "clips rank"]:
        """Coordinates of the store's clips, read when first asked for; NaN where a clip has none.

        Raises:
            EmonetError: if a chunk is damaged or missing.
        """
        (values,) = self.undivided([np.arange(len(self.store))])
        values /= np.float32(self.basis.unit)
        return values

    def undivided(self, parts: Sequence[Rows]) -> list[Float32[np.ndarray, "_ rank"]]:
        """Coordinates before they are divided by the basis' unit, which depends on the rank; read at each call.

        Args:
            parts: rows of the store, each ascending; read in one pass.

        Raises:
            RequestError: if they do not fit into memory.
            EmonetError: if a chunk is damaged or missing.
        """
        require_readable(self.store, sum(map(len, parts)), self.basis.rank)
        return basis_files.read_coordinates(self.folder, self.basis.rank, self.clips, len(self.store), parts)

    def of(self, rank: Rank) -> PrincipalStates:
        """The strongest coordinates alone, as `PrincipalBasis.truncated`; only these are read.

        Raises:
            RequestError: if there are not so many, or they do not hold such a share of the energy.
        """
        return replace(self, basis=self.basis.truncated(rank))


def principal(
    store: FeatureStore,
    *,
    standardise: bool,
    memory_gib: float,
    seed: int,
    show: ShowProgress,
    splits: Sequence[Split] = SPLITS,
    most: int = MOST,
    landmarks: int = LANDMARKS,
    rank: Rank = "all",
    arithmetic: Arithmetic | None = None,
) -> PrincipalStates:
    """Principal coordinates of the clips of some splits, from the store if they are kept there, else made and kept.

    With up to `most` training clips each is a basis clip, and the coordinates hold everything. With more, `landmarks`
    of them are drawn at random (Nystroem), and the coordinates hold what lies in their span; `basis.energy_share`
    says how much that is.

    Args:
        store: whose training clips make the basis.
        standardise: divide each feature by its deviation over the training clips.
        memory_gib: for states; where not all fit, the store is read once for each part of the basis that does (GiB).
            Besides, the products of the basis clips take 4 bytes each, and about 20 more while they are decomposed.
        seed: of the landmarks.
        show: opens a progress callback for each pass.
        splits: whose clips get coordinates, training clips in any case; no state of another split is read.
        most: training clips up to which each is a basis clip.
        landmarks: basis clips that are drawn from more.
        rank: how many coordinates will be read of each clip; all are kept.
        arithmetic: of the products; None chooses.

    Raises:
        RequestError: if there are fewer than two training clips, all are the same, or memory does not hold the products
            of the basis clips or the coordinates: before anything is computed.
        EmonetError: if a state is not finite (names the clip), the disk has too little space, the store changed in the
            meantime, or what is kept there is damaged.
    """
    plan = _plan(store, standardise, seed, splits, most, landmarks)
    require_memory(plan, rank, memory_gib, kept=plan.folder.exists())
    if (kept := _kept(plan)) is not None:
        return kept
    store.home.parent.mkdir(parents=True, exist_ok=True)
    with durable.explained(store.home.parent), FileLock(_beside(store, ".lock")):
        if (kept := _kept(plan)) is not None:  # another process computed them while this one waited
            return kept
        for leftover in store.home.parent.glob(f"{escape(_beside(store, '-').name)}*{_UNFINISHED}"):
            shutil.rmtree(leftover)  # left by a killed process
        fresh = _beside(store, f"-{plan.fingerprint[:16]}{_UNFINISHED}")
        try:
            chosen = arithmetic or arithmetic_for(store.record.frames * store.record.width)
            Computation(plan, fresh, chosen, memory_gib * GIB, show).run()
            require_unchanged(store)
            plan.folder.parent.mkdir(parents=True, exist_ok=True)
            (fresh / GROUP).rename(plan.folder)
            durable.sync_up_to(plan.folder.parent, store.home)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return _read(plan)


def forget_divisions(store: FeatureStore) -> None:
    """Remove the coordinates that were made for other splits than the store's own (`with_splits`).

    Those of the store's own splits stay, as does what another process is computing.
    """
    for folder in (store.home / PRINCIPAL).glob("*"):
        try:
            divided = basis_files.attributes(folder).get("division")
        except (OSError, ValueError, KeyError):
            continue  # damaged: `listed` names it
        if divided:
            gone = tempfile.mkdtemp(_UNFINISHED, _beside(store, "-").name, store.home.parent)
            with suppress(FileNotFoundError):  # another process was faster
                folder.rename(Path(gone, folder.name))  # in one step: a killed process leaves no half of it
            shutil.rmtree(gone, ignore_errors=True)


def require_unchanged(store: FeatureStore) -> None:
    """Check that the store is still the one that was opened.

    Raises:
        EmonetError: if it is another one now.
    """
    now = FeatureStore.open(store.path).fingerprint
    if now != store.fingerprint:
        raise EmonetError(
            "the store changed while it was read",
            where=store.path,
            expected=f"fingerprint {store.fingerprint}",
            found=now,
            hint="the same command again",
        )


def _plan(
    store: FeatureStore, standardise: bool, seed: int, splits: Sequence[Split], most: int, landmarks: int
) -> Plan:
    train = store.rows("train").astype(np.int64)
    if len(train) < 2:
        raise RequestError(
            "principal coordinates need at least two training clips that have states",
            where=store.path,
            found=len(train),
            hint="more training clips, or an expert on statistics",
        )
    rows = train
    if len(train) > most and len(train) > landmarks:
        if landmarks < 2:
            raise RequestError("a basis needs at least two clips", expected="landmarks of 2 or more", found=landmarks)
        rows = np.sort(generator(seed, "landmarks").choice(train, landmarks, replace=False))
    chosen = [hashlib.sha256(part.tobytes()).hexdigest() for part in (train, rows)]
    parts: list[object] = [store.fingerprint, chosen, standardise, VERSION]
    clips = store.rows().astype(np.int64)
    if set(splits) | {"train"} != set(SPLITS):
        clips = np.sort(np.concatenate([store.rows(split) for split in {"train", *splits}])).astype(np.int64)
        parts.append(hashlib.sha256(clips.tobytes()).hexdigest())
    if store.division:  # of its own, so that forgetting it takes nobody else's
        parts.append(store.division)
    return Plan(store, standardise, train, rows, clips, digest(parts))


def _kept(plan: Plan) -> PrincipalStates | None:
    return _read(plan) if plan.folder.exists() else None


def _read(plan: Plan) -> PrincipalStates:
    basis, rows = basis_files.read(plan.folder, plan.fingerprint)
    return PrincipalStates(plan.store, plan.folder, plan.fingerprint, basis, rows, plan.clips)


def _beside(store: FeatureStore, ending: str) -> Path:
    """Not inside the store, whose verbs take what is half-written there for damage."""
    return store.home.with_name(f".{store.home.name}.{PRINCIPAL}{ending}")
