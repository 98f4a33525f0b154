"""Layers of an encoder by name: last, middle, all, or numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emonet.configs import Layers
from emonet.errors import RequestError

if TYPE_CHECKING:
    from emonet.encoders.base import ReadyEncoder

CENTRE, HALF = 0.6, 0.25  # of the depth: where emotion is heard best in Whisper base, and half of how many are taken


class NarrowError(RequestError):
    """An encoder has no such layer, or hears less than the window that is asked for.

    Args:
        what: one sentence, what went wrong.
        has: what it has instead, in words.
        parts: of the message, as `EmonetError` takes them.
    """

    def __init__(self, what: str, *, has: str = "", **parts: Any) -> None:
        super().__init__(what, **parts)
        self.has = has


def inner_layers(encoder: ReadyEncoder) -> tuple[int, ...] | None:
    """The layers that stand side by side in an encoder's states; None: the last one.

    A single layer counts as the last one where the encoder, a plug-in's, does not say how many it has.
    """
    last = encoder.layers[-1:] if encoder.depth is None else (encoder.depth,)
    return None if encoder.layers == last else encoder.layers


def resolve_layers(
    wanted: Layers,
    depth: int,
    *,
    there: int | None = None,
    saved: tuple[int, ...] | None = None,
    where: str | None = None,
) -> tuple[int, ...]:
    """The numbers of an encoder's layers, ascending, each once.

    `k` are the states behind layer `k`: Hugging Face's `hidden_states[k]`, of which the last one stands behind the
    final norm.

    Args:
        wanted: `last`, `middle` (the half around three fifths of the depth: 2 to 5 of 6, 4 to 10 of 12), `all`, or
            numbers.
        depth: layers of the encoder (count).
        there: of these, those whose weights are there; all by default.
        saved: where some are not, the layers that the encoder was saved with, for the message.
        where: the encoder's name, for the message.

    Raises:
        NarrowError: if it has no such layer, or none is asked for.
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
        raise NarrowError(
            "the encoder has no such layer",
            has=f"layers 1 to {there}{kept}",
            where=where,
            expected=f"1 to {there}{kept}{names}",
            found=wanted if isinstance(wanted, str) else " ".join(map(str, wanted)) or "none",
            hint=f"--extraction.layers {' '.join(map(str, saved))} takes those that it was saved with"
            if saved
            else None,
        )
    return tuple(found)
