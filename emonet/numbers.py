"""Numbers as people read them: rounded in one place, times of the clock, and what rounds to zero has no minus sign."""

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


def clock(seconds: float) -> str:
    """A place in a recording: `0:07.5` or `1:02:07.5`."""
    tenths = round(10 * max(0.0, seconds))
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}:{minutes:02}:" if hours else f"{minutes}:") + f"{rest / 10:04.1f}"


def duration(seconds: float) -> str:
    """`42 s`, `3 min 20 s` or `2 h 5 min`."""
    whole = round(seconds)
    if whole < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
