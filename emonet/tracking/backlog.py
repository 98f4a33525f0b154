"""What a tracking server did not take while it was away: kept in order and logged later, so that training goes on."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from emonet.tracking.answers import answering, brief, reason

PAUSE = 30.0  # seconds between attempts while a server is away
PATIENCE = 60.0  # seconds, at the end, for a server to come back
_ASK_EVERY = 2.0  # seconds, at the end
_LOCKED = "database is locked"  # what SQLite says
_log = logging.getLogger(__name__)  # on stderr, where nobody has set up another place


class Backlog:
    """Calls to a server, made at once or, while it is away, later.

    Args:
        uri: of the server.
        ask: a cheap call that raises while the server is away; made before a call that may take long.
    """

    def __init__(self, uri: str, ask: Callable[[], object]) -> None:
        self._uri, self._ask = uri, ask
        self._waiting: deque[tuple[Callable[[], object], bool]] = deque()
        self._next = 0.0
        self._away = False
        self._lock = threading.Lock()  # Lightning and sweeps log from several threads

    def offer(self, call: Callable[[], object], *, brief: bool = True) -> None:
        """Make a call now, or as soon as the server answers again; never raises.

        Args:
            call: to the server.
            brief: whether it takes no more than seconds where the server answers.
        """
        with self._lock:
            self._waiting.append((call, brief))
            if time.monotonic() >= self._next:
                self._drain()

    def flush(self, patience: float | None = None) -> None:
        """Make all calls that wait.

        Args:
            patience: how long the server may be away (seconds); by default `PATIENCE`.

        Raises:
            EmonetError: if it is away for longer.
        """
        self._waiting.append((self._ask, True))  # also where nothing waits: what comes next needs the server
        until = time.monotonic() + (PATIENCE if patience is None else patience)
        with self._lock:
            while (error := self._drain()) is not None:
                if time.monotonic() >= until:
                    self._refuse(error)
                time.sleep(_ASK_EVERY)

    def _drain(self) -> Exception | None:
        """Make the calls that wait, as long as the server answers; what it said if it does not."""
        while self._waiting:
            error = self._tried(*self._waiting[0])
            if error is not None:
                self._next = time.monotonic() + PAUSE
                if not self._away:
                    self._away = True
                    _log.warning(
                        "MLflow does not take what is logged (%s); work goes on, and it is kept", reason(error)
                    )
                return error
            self._waiting.popleft()
        if self._away:
            self._away = False
            _log.warning("MLflow answers again; what was kept is logged")
        self._next = 0.0
        return None

    def _tried(self, call: Callable[[], object], short: bool) -> Exception | None:
        """Make a call, or give it up where the server answers and refuses it; the error of a server that is away."""
        try:
            self._make(call, short)
        except Exception as first:  # noqa: BLE001  # whatever MLflow, SQLAlchemy or requests raise
            try:
                with brief(self._uri):
                    self._ask()
            except Exception:  # noqa: BLE001  # as above
                return first
            try:
                self._make(call, short)  # again: the server may have been away for a moment
            except Exception as refused:  # noqa: BLE001  # as above
                if _LOCKED in str(refused):  # it can be read, and will be written once another process is done
                    return refused
                _log.warning("not logged: %s", reason(refused))  # it would fail for ever, and hold up all behind it
        return None

    def _make(self, call: Callable[[], object], short: bool) -> None:
        if short:
            with brief(self._uri):
                call()
            return
        with brief(self._uri):
            self._ask()
        call()

    def _refuse(self, error: Exception) -> None:
        """Say what is not logged.

        Raises:
            EmonetError: always.
        """
        hint = (
            "what was computed is kept on disk; once MLflow answers again, the same command goes on from there; "
            'where it says "up to date", --force runs it again'
        )
        with answering(self._uri, f"MLflow has not taken {len(self._waiting) - 1} of the things to log", hint):
            raise error
