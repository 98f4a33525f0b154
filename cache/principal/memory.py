"""Memory of principal coordinates: what does not fit is refused before hours are spent on it."""

from __future__ import annotations

from cache.principal.computation import Plan
from cache.store import FeatureStore
from emonet.errors import RequestError
from emonet.runtime import available_bytes
from emonet.training import Rank

GIB = 1 << 30
DECOMPOSED = 24  # bytes for each product of two basis clips: 4 to hold it, about 20 more while all are decomposed
_ELSE = "or --heads.inputs statistics; or --heads.features states, which reads the store in each epoch"


def require_memory(plan: Plan, rank: Rank, memory_gib: float, *, kept: bool) -> None:
    """Check that memory holds what is to be computed, and what is to be read of it.

    Args:
        plan: what is to be computed.
        rank: how many coordinates will be read of each clip; of a share nobody knows yet how many it takes.
        memory_gib: for states while products are computed (GiB).
        kept: whether they were computed before, and are only to be read.

    Raises:
        RequestError: if it does not.
    """
    basis, clips, free = len(plan.rows), len(plan.clips), available_bytes()
    states = min(memory_gib * GIB, clips * plan.store.clip_bytes)
    needed = DECOMPOSED * basis**2 + states
    if needed > free and not kept:
        raise RequestError(
            f"the products of {basis:,} basis clips with each other do not fit into memory",
            where=plan.store.path,
            expected=f"{needed / GIB:.1f} GiB, of which {states / GIB:.1f} GiB for states (--heads.states-gib)",
            found=f"{free / GIB:.1f} GiB available",
            hint=f"a machine with more memory; {_ELSE}",
        )
    wanted = 1 if isinstance(rank, float) else basis if rank == "all" else min(rank, basis)
    require_readable(plan.store, clips, wanted)


def require_readable(store: FeatureStore, clips: int, rank: int) -> None:
    """Check that memory holds so many coordinates of so many clips.

    Raises:
        RequestError: if it does not.
    """
    needed, free = 4 * clips * rank, available_bytes()
    if needed > free:
        raise RequestError(
            f"{rank:,} principal coordinates of {clips:,} clips do not fit into memory",
            where=store.path,
            expected=f"{needed / GIB:.1f} GiB",
            found=f"{free / GIB:.1f} GiB available",
            hint=f"--heads.rank {max(1, free // (4 * clips))} or less; {_ELSE}",
        )
