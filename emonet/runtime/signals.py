"""Signals: INT, TERM and HUP become an exception in the main thread, so that whatever runs ends in order."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FrameType
from typing import Any, NoReturn

HEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 10.0  # seconds that a signal waits for what must not be cut short
AGAIN = 0.05  # seconds until a signal whose exception was ignored is sent again


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
    waiting: Stopped | None = None
    shielded_until: float | None = None
    patience: float | None = None
    held: Stopped | None = None


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
    hook, sys.unraisablehook = sys.unraisablehook, _send_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
        _State.first = outer


@contextmanager
def shielded(seconds: float = PATIENCE) -> Iterator[None]:
    """Within the block heeded signals wait, so that what is in it happens as a whole.

    Args:
        seconds: after so long nothing waits any more.
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
            raise waiting


@contextmanager
def held(seconds: float) -> Iterator[Callable[[], signal.Signals | None]]:
    """Within the block the first heeded signal waits for a good moment; a second one does not.

    What is handed over says which signal waits, if any. It is raised when the block ends, or `seconds` after it came.
    """
    if threading.current_thread() is not threading.main_thread() or _State.patience is not None:
        yield lambda: None
        return
    _State.patience = seconds
    try:
        yield lambda: None if _State.held is None else _State.held.number
    finally:
        _State.patience = None
        waiting, _State.held = _State.held, None
    if waiting is not None:
        raise waiting


def stop(number: int) -> NoReturn:
    """End as if a signal had come here, which came to another process of the same work."""
    stopped = Stopped(number)
    _State.first = _State.first or stopped.number
    raise stopped


class Uncut:
    """Lets signals wait for the end of each call of a method; to be named before the class whose methods these are.

    A library that an exception leaves in the midst of a transaction keeps its database locked.
    """

    def __getattribute__(self, name: str) -> Any:
        """The attribute; a public method in a shield."""
        value = super().__getattribute__(name)
        if name.startswith("_") or not callable(value):
            return value

        @wraps(value)
        def whole(*arguments: Any, **options: Any) -> Any:
            with shielded():
                return value(*arguments, **options)

        return whole


def leave_to_parent() -> None:
    """Ignore signals in a child: they reach every process of a terminal or a job, and the parent decides."""
    for number in HEEDED:
        signal.signal(number, signal.SIG_IGN)


def _stop(number: int, frame: FrameType | None) -> None:
    stopped, now = Stopped(number), time.monotonic()
    _State.first = _State.first or stopped.number
    if frame is not None and frame.f_code is _send_again.__code__:  # where nothing can be raised
        _later(number, AGAIN)
    elif _State.patience is not None and _State.held is None:
        _State.held = stopped
        _later(number, _State.patience, lambda: _State.held is stopped)
    elif _State.shielded_until is None or now >= _State.shielded_until:
        _State.waiting = None
        raise stopped
    elif _State.waiting is None:
        _State.waiting = stopped
        _later(number, _State.shielded_until - now, lambda: _State.waiting is stopped)


def _send_again(ignored: Any) -> None:
    """Python's hook for exceptions that it ignores, as in destructors and callbacks: a signal is sent once more."""
    if isinstance(ignored.exc_value, Stopped):
        _later(ignored.exc_value.number, AGAIN)
    else:
        sys.__unraisablehook__(ignored)


def _later(number: int, seconds: float, wanted: Callable[[], bool] = lambda: True) -> None:
    main = threading.main_thread().ident or 0

    def send() -> None:
        time.sleep(seconds)
        if wanted():
            signal.pthread_kill(main, number)

    _thread.start_new_thread(send, ())  # takes no lock that may be held here
