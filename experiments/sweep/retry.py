"""Retry with back-off: call again what may be locked or away for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import uniform
from typing import TypeVar

from emonet.errors import EmonetError

T = TypeVar("T")
FIRST, LONGEST = 0.05, 3.0  # seconds between two calls, doubled after each


class UnansweredError(EmonetError):
    """What was called did not answer for as long as it was worth waiting; it may answer later."""


def retry(
    call: Callable[[], T],
    patience: float,
    trouble: tuple[type[Exception], ...],
    explained: Callable[[Exception], UnansweredError],
) -> T:
    """The result of a call, which is made again while it raises `trouble`.

    Args:
        call: what is called.
        patience: for how long (seconds).
        trouble: what may pass.
        explained: says what is wrong if it does not pass.

    Raises:
        UnansweredError: if it does not pass.
    """
    until, pause = time.monotonic() + patience, FIRST
    while True:
        try:
            return call()
        except trouble as error:
            if time.monotonic() > until:
                raise explained(error) from error
        time.sleep(uniform(pause / 2, pause))
        pause = min(2 * pause, LONGEST)
