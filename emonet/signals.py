"""Signals: INT, TERM and HUP become an exception in the main thread, so that whatever runs ends in order."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

HEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 10.0  # seconds that a signal waits for what must not be cut short


class Stopped(KeyboardInterrupt):
    """A signal asked this process to end; libraries that know Ctrl-C let it pass as they let that pass.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        self.number = signal.Signals(number)
        super().__init__(self.number.name)


class _State:
    """What has come so far; of the main thread, as signals are."""

    first: signal.Signals | None = None
    waiting: signal.Signals | None = None
    shielded_until: float | None = None


def received() -> signal.Signals | None:
    """The first signal that came since `heeded` was entered, whatever became of its exception on the way."""
    return _State.first


def ended_by_signal(error: BaseException) -> bool:
    """Whether an error goes back to somebody who wanted this process to end: nothing has failed by itself."""
    return isinstance(error, KeyboardInterrupt) or received() is not None


@contextmanager
def heeded() -> Iterator[None]:
    """Within the block INT, TERM and HUP raise `Stopped`; one that this process was started to ignore stays ignored.

    So it is with `nohup`, and with what a shell runs in the background. Only the main thread can ask for it: in another
    one the block changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = [number for number in HEEDED if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    outer, _State.first = _State.first, None
    before = {number: signal.signal(number, _stop) for number in ours}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _State.first = outer


@contextmanager
def shielded(seconds: float = PATIENCE) -> Iterator[None]:
    """Within the block heeded signals wait, so that what is in it happens as a whole.

    Args:
        seconds: the longest that one waits; what comes later is heard at once.
    """
    if threading.current_thread() is not threading.main_thread() or _State.shielded_until is not None:
        yield
        return
    _State.shielded_until = time.monotonic() + seconds
    try:
        yield
    finally:
        _State.shielded_until = None
        waiting, _State.waiting = _State.waiting, None
        if waiting is not None:
            raise Stopped(waiting)


def leave_to_parent() -> None:
    """Ignore signals in a child: they reach every process of a terminal or a job, and the parent decides."""
    for number in HEEDED:
        signal.signal(number, signal.SIG_IGN)


def _stop(number: int, _frame: object) -> None:
    _State.first = _State.first or signal.Signals(number)
    if _State.shielded_until is not None and time.monotonic() < _State.shielded_until:
        _State.waiting = signal.Signals(number)
        return
    raise Stopped(number)
