"""Callbacks of a writer: what it tells whoever started it, before it begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from emonet.runtime import ignore


@dataclass(frozen=True, slots=True)
class Notices:
    """What is called, each at most once.

    Args:
        replacing: a store is about to be made, in the place of one that is there or for the first time.
        waiting: another process is preparing the store, which takes as long as it encodes 32 clips, and this one waits.
    """

    replacing: Callable[[], None] = ignore
    waiting: Callable[[], None] = ignore
