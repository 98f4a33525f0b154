"""Back-projection: from weights on principal coordinates to weights on raw states."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from cache.principal.coordinates import PrincipalStates, require_unchanged
from cache.principal.gram import ClipReader, spans
from cache.principal.memory import GIB
from cache.store import FeatureStore
from emonet.errors import RequestError
from emonet.runtime import Arithmetic, Progress, ignore
from emonet.training import PrincipalBasis, Standardised, add_combinations, arithmetic_for

STEEP = 1e4  # energy of the first over that of the last coordinate, beyond which bf16 would show
Part = tuple[slice, Float32[Tensor, "part features"], Float32[Tensor, " part"]]


def lift(
    store: FeatureStore,
    states: PrincipalStates,
    weights: Float[Tensor, "rows rank"],
    bias: Float[Tensor, " rows"],
    *,
    memory_gib: float,
    together: int = 1,
    progress: Progress = ignore,
    arithmetic: Arithmetic | None = None,
) -> Iterator[Part]:
    """First layers on raw states that give what these give on coordinates, a few rows at a time.

    w z + b = (w At X / s) x + (b - (w At X / s) m) for coordinates z = A X (x - m) / s.

    Args:
        store: that the coordinates were made from.
        states: of the rank that the weights have.
        weights: of the experts' first layers, one below the other.
        bias: of each row.
        memory_gib: for basis clips and lifted rows; one row and two clips are the least. Where it does not hold all
            basis clips and rows, they are read once for every part (GiB).
        together: rows of an expert: a part has those of whole experts, if memory holds one.
        progress: called with basis clips that were used, over all parts.
        arithmetic: of the products; None chooses.

    Returns:
        Parts: which rows, their weights and their bias. A part that is kept keeps its memory.

    Raises:
        RequestError: if this is another store, or the weights are of another rank.
        EmonetError: when parts are taken: if a chunk is damaged, or the store changed in the meantime.
    """
    if store.fingerprint != states.store.fingerprint:
        raise RequestError(
            "a lift onto another store than the coordinates were made from",
            where=store.path,
            expected=f"fingerprint {states.store.fingerprint}",
            found=store.fingerprint,
        )
    if weights.shape != (len(bias), states.basis.rank):
        raise RequestError(
            "the weights are not on these coordinates",
            expected=f"{len(bias)} rows of {states.basis.rank}",
            found=tuple(weights.shape),
        )
    chosen = arithmetic or lifting_arithmetic(states.basis)
    memory = memory_gib * GIB
    return _parts(store, states, weights.detach().cpu(), bias.detach().cpu(), memory, together, progress, chosen)


def lifting_arithmetic(basis: PrincipalBasis) -> Arithmetic:
    """As `arithmetic_for`, but float32 where weak coordinates count.

    Weights on a coordinate are differences of clips that lose sqrt(first / its energy) in precision, and bf16 in two
    parts holds 16 bits: at an energy ratio of 27 lifted scores are off by 2e-5 of their size, at 7e5 by 1e-3.
    """
    if float(basis.energies[0]) > STEEP * float(basis.energies[-1]):
        return "float32"
    return arithmetic_for(len(basis.shift))


def _parts(
    store: FeatureStore,
    states: PrincipalStates,
    weights: Tensor,
    bias: Tensor,
    memory_bytes: float,
    together: int,
    progress: Progress,
    arithmetic: Arithmetic,
) -> Iterator[Part]:
    basis, count = states.basis, len(states.rows)
    clips = ClipReader(store, states.rows, memory_bytes / 2)
    left = memory_bytes - (count if clips.fits else clips.held) * store.clip_bytes
    fitting = max(1, int(left / (4 * len(basis.shift))))
    rows = list(spans(0, len(weights), fitting // together * together or fitting))
    progress(0, len(rows) * count)
    clips.load(ignore)
    shift = basis.shift.double()
    for number, part in enumerate(rows):
        combination = basis.combination(weights[part])
        lifted = torch.zeros(len(combination), len(shift))
        for span in spans(0, count, clips.held):
            held = Standardised(clips.span(span.start, span.stop), basis.shift, basis.scale)
            add_combinations(lifted, combination[:, span], held, arithmetic)
            progress(number * count + span.stop, len(rows) * count)
        lifted.div_(basis.scale)
        # Row by row: a double copy of all would not fit.
        moved = torch.stack([row.double() @ shift for row in lifted])
        yield part, lifted, (bias[part].double() - moved).float()
        del lifted, moved
    progress(len(rows) * count, len(rows) * count)
    require_unchanged(store)
