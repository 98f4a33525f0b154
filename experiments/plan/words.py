"""Words of a plan: times and sizes in one unit each, since no plan is right to the two of `emonet.numbers.duration`."""

from __future__ import annotations


def taken(hours: float) -> str:
    """Hours in words."""
    seconds = 3600 * hours
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{hours:.1f} h" if hours < 72 else f"{hours / 24:.1f} days"


def size(gigabytes: float) -> str:
    """A size in words."""
    if gigabytes >= 1000:
        return f"{gigabytes / 1000:.1f} TB"
    return f"{gigabytes:.1f} GB" if gigabytes >= 1 else f"{1000 * gigabytes:.0f} MB"
