"""Captions of targets that are no emotions, by bands of their scales (`low arousal`): written, and read back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

from emonet.targets import Target, TargetSpec

Band = Literal["low", "medium", "high"]
BANDS: tuple[Band, ...] = ("low", "medium", "high")
"""The thirds of a scale."""
MOST = 12  # targets in a caption: with more, sets of a hundred would not fit into a captioner's tokens


def bands(shares: Mapping[str, float], spec: TargetSpec) -> dict[str, Band]:
    """Id -> band of the targets that a caption mentions: all rated ones, or those farthest from the middle.

    Args:
        shares: target id -> where its score lies on its scale (0 to 1), as `TargetSpec.shares` gives them.
        spec: of the targets; its emotions are left out.
    """
    rated = [name for name in spec.apart if name in shares]
    kept = sorted(rated, key=lambda name: -abs(shares[name] - 0.5))[:MOST]
    return {name: _band(shares[name]) for name in rated if name in kept}


def in_words(target: Target, band: Band) -> str:
    """How a caption says it."""
    return f"{band} {_spoken(target.name)}"


def said_bands(caption: str, spec: TargetSpec) -> dict[str, Band]:
    """Id -> band of the targets that a sentence mentions with a band, by name, id or alias; the first mention counts.

    Args:
        caption: any sentence; upper and lower case are alike.
        spec: the targets to look for; its emotions are left out.
    """
    owners, pattern = _reader(spec)
    found: dict[str, Band] = {}
    if pattern is not None:
        for match in pattern.finditer(" ".join(caption.split())):
            band = next(band for band in BANDS if band == match["band"].casefold())
            found.setdefault(owners[match["name"].casefold()], band)
    return found


def _band(share: float) -> Band:
    return BANDS[min(max(int(share * len(BANDS)), 0), len(BANDS) - 1)]


def _spoken(name: str) -> str:
    return " ".join(name.casefold().split())


@lru_cache(maxsize=8)
def _reader(spec: TargetSpec) -> tuple[dict[str, str], re.Pattern[str] | None]:
    """Name -> id, and a pattern that finds a band with the longest name behind it."""
    owners: dict[str, str] = {}
    for target in (spec[name] for name in spec.apart):
        for name in (target.name, target.id.replace("_", " "), *target.aliases):
            owners.setdefault(_spoken(name), target.id)
    if not owners:
        return {}, None
    names = "|".join(map(re.escape, sorted(owners, key=lambda name: (-len(name), name))))
    return owners, re.compile(rf"(?<![\w-])(?P<band>{'|'.join(BANDS)}) (?P<name>{names})(?![\w-])", re.IGNORECASE)
