"""Decoration: plots, pages and tables beside a result. Where one fails, that is told, and it costs itself only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from experiments.core import console


@contextmanager
def decoration(what: str) -> Iterator[None]:
    """Make something that is nice to have, once the result that it belongs to is safe.

    Args:
        what: it is, as a message names it.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001  # whatever it is, hours of training are worth more
        reason = (str(error).splitlines() or [""])[0]
        console.say(
            f"[yellow]{console.name(what)} could not be made[/] ({console.name(f'{type(error).__name__}: {reason}')})"
        )
