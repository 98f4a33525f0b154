"""Progress: a callback `(completed, total)` says how far work is; code below knows no terminal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable


@runtime_checkable  # so that tests can check annotations at run time
class Progress(Protocol):
    """Called with the number of finished and of all items: at first with what is done, at last with `total` twice."""

    def __call__(self, completed: int, total: int, note: str = "") -> None:
        """Take note that `completed` of `total` items are finished; `note` is shown beside, e.g. `0.4 TFLOP/s`."""


def ignore(*_: object, **__: object) -> None:
    """The callback that does nothing: for progress, reports and messages that nobody waits for."""


ShowProgress = Callable[[str, str], AbstractContextManager[Progress]]
"""Opens a progress callback for a label and a unit."""
