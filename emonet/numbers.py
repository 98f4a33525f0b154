"""Numbers as people read them: rounded in one place, and what rounds to zero has no minus sign."""

from __future__ import annotations

UNDEFINED = "–"


def shown(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """`0.413`, `-0.100` or, where it is undefined, a dash; -0.0004 is `0.000`.

    Args:
        value: to be shown.
        digits: after the point (count).
        signed: with a plus sign, too, as differences are.
    """
    return UNDEFINED if value is None else format(value, f"{'+' if signed else ''}z.{digits}f")
