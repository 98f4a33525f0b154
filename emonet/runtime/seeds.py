"""Seeds: random numbers that depend on what they are for, not on when or where they are drawn."""

from __future__ import annotations

import hashlib

import numpy as np


def seed_of(*parts: object) -> int:
    """A seed out of e.g. the run's seed, a purpose, an epoch and a clip id: 0 to 2**63 - 1, the same everywhere."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(*parts: object) -> np.random.Generator:
    """A generator seeded by `seed_of(*parts)`: no worker count and no order of drawing changes its numbers."""
    return np.random.default_rng(seed_of(*parts))
