"""Layers of an encoder by name: last, middle, all, or numbers."""

from __future__ import annotations

from emonet.configs import Layers
from emonet.errors import RequestError

CENTRE, HALF = 0.6, 0.25  # of the depth: where emotion is heard best in Whisper base, and half of how many are taken


def resolve_layers(
    wanted: Layers, depth: int, *, there: int | None = None, where: str | None = None
) -> tuple[int, ...]:
    """The numbers of an encoder's layers, ascending, each once.

    `k` are the states behind layer `k`: Hugging Face's `hidden_states[k]`, of which the last one stands behind the
    final norm.

    Args:
        wanted: `last`, `middle` (the half around three fifths of the depth: 2 to 5 of 6, 4 to 10 of 12), `all`, or
            numbers.
        depth: layers of the encoder (count).
        there: of these, those whose weights are there; all by default.
        where: the encoder's name, for the message.

    Raises:
        RequestError: if it has no such layer, or none is asked for.
    """
    there = depth if there is None else there
    if wanted == "last":
        found = [depth]
    elif wanted == "all":
        found = list(range(1, depth + 1))
    elif wanted == "middle":
        low, high = (round((CENTRE + side) * depth) for side in (-HALF, HALF))
        found = list(range(max(1, low), max(1, high) + 1))
    else:
        found = sorted(set(wanted))
    if not found or not 1 <= found[0] <= found[-1] <= there:
        names = "" if isinstance(wanted, str) else "; or last, middle, all"
        kept = "" if there == depth else f" (of {depth}; the others were not kept)"
        raise RequestError(
            "the encoder has no such layer",
            where=where,
            expected=f"1 to {there}{kept}{names}",
            found=wanted if isinstance(wanted, str) else " ".join(map(str, wanted)) or "none",
        )
    return tuple(found)
