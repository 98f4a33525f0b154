"""HTTP calls with retries and back-off, `Retry-After`, a rate limit and time-outs; no secret gets into what is said."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, final

from pydantic import Field, PositiveFloat, PositiveInt

from emonet.errors import RequestError
from emonet.peers.secret_headers import Secrets
from emonet.schema import Schema

if TYPE_CHECKING:
    from requests import Response, Session

CONNECT = 10.0  # seconds
LARGEST = 16 << 20  # bytes of an answer
LONGEST_PAUSE = 600.0  # seconds that a server may ask us to wait
_SENT_ELSEWHERE = range(300, 400)  # a redirect would take the key to another host
_REFUSED_FOR_ALL = {
    401: "the key is not accepted",
    403: "the key may not do this",
    404: "there is no such model or URL",
}
_PASSING = frozenset({408, 425, 429})  # and all from 500 on


class Manners(Schema):
    """How a service is called."""

    timeout: PositiveFloat = 60.0
    """An answer that takes longer counts as none (seconds)."""
    attempts: PositiveInt = 5
    """Times that a clip is sent before it is given up (count)."""
    first_wait: float = Field(1.0, ge=0)
    """Before the second attempt, up to so long, by chance; then twice as long each time (seconds)."""
    longest_wait: float = Field(60.0, ge=0)
    """That this grows to (seconds); a server that asks for more by Retry-After is heeded."""
    requests_per_minute: PositiveFloat = 60.0
    """Requests that are begun in a minute, at an even pace (count)."""
    parallel: int = Field(4, ge=1, le=64)
    """Requests that are under way at the same time (count)."""


@dataclass(frozen=True)
class Request:
    """What is posted.

    Args:
        url: where to; without secrets.
        headers: with `${NAME}` in the place of secrets.
        body: a JSON value, or bytes as they are.
        files: parts of a form: name -> file name (None for a plain field), content, content type.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    files: Mapping[str, tuple[str | None, bytes | str, str]] | None = None


@dataclass(frozen=True)
class Reply:
    """What came back, without secrets.

    Args:
        status: of HTTP.
        text: the body.
    """

    status: int
    text: str

    @property
    def good(self) -> bool:
        """Whether it is an answer, and not a reason for none."""
        return 200 <= self.status < 300


class UnansweredError(Exception):
    """A service gave no answer, after all attempts; the text says why."""


class _PassingError(Exception):
    """There is no answer, but there may be one soon; the text says why."""


@final
class Pace:
    """Lets requests begin at an even pace, whichever thread they come from."""

    def __init__(self, per_minute: float, stop: threading.Event) -> None:
        self._every, self._stop = 60 / per_minute, stop
        self._next, self._lock = 0.0, threading.Lock()

    def wait(self) -> None:
        """Until it is this request's turn."""
        with self._lock:
            begin = max(time.monotonic(), self._next)
            self._next = begin + self._every
        self._stop.wait(begin - time.monotonic())

    def hold(self, seconds: float) -> None:
        """Let no request begin for so long: a server has asked for it."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


@final
class Caller:
    """Sends requests of one service from several threads.

    Args:
        secrets: of its headers.
        manners: how it is called.
    """

    def __init__(self, secrets: Secrets, manners: Manners) -> None:
        self._secrets, self._manners = secrets, manners
        self.stop = threading.Event()
        self._pace = Pace(manners.requests_per_minute, self.stop)
        self._own = threading.local()  # a session is for one thread
        self._sessions: list[Session] = []

    def close(self) -> None:
        """Close the connections; calls that wait give up."""
        self.stop.set()
        for session in self._sessions:
            session.close()

    def send(self, request: Request, before: Callable[[], None], unbilled: Callable[[], None]) -> Reply:
        """Post a request until there is an answer to keep, or a refusal of this one clip.

        Args:
            request: to be posted.
            before: called before each attempt; what it raises ends them.
            unbilled: called after an attempt that the service has turned away; one that is lost may be billed.

        Raises:
            UnansweredError: if there is none after all attempts.
            RequestError: if no request can succeed: a wrong key, model or URL.
        """
        import tenacity

        m = self._manners
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_PassingError),
            stop=tenacity.stop_any(tenacity.stop_after_attempt(m.attempts), tenacity.stop_when_event_set(self.stop)),
            wait=tenacity.wait_random_exponential(multiplier=m.first_wait, max=m.longest_wait),
            sleep=tenacity.sleep_using_event(self.stop),
            reraise=True,
        )
        try:
            return retrying(self._once, request, before, unbilled)
        except _PassingError as error:
            raise UnansweredError(f"{error}, {m.attempts} times" if m.attempts > 1 else str(error)) from None

    def _once(self, request: Request, before: Callable[[], None], unbilled: Callable[[], None]) -> Reply:
        self._pace.wait()
        if self.stop.is_set():
            raise UnansweredError("stopped")
        before()
        reply, pause = self._post(request)
        if not reply.good:
            unbilled()
        if "insufficient_quota" in reply.text and reply.status == 429:  # OpenAI's: waiting does not help
            raise RequestError("the account has nothing left", where=request.url, found=said(reply.text))
        if reply.status in _PASSING or reply.status >= 500:
            if pause > LONGEST_PAUSE:
                raise UnansweredError(f"HTTP {reply.status}: the server asks to wait for {pause:.0f} s")
            self._pace.hold(pause)
            raise _PassingError(f"HTTP {reply.status}")
        if reply.status in _SENT_ELSEWHERE or reply.status in _REFUSED_FOR_ALL:
            what = _REFUSED_FOR_ALL.get(reply.status, "the service has moved; redirects are not followed")
            raise RequestError(what, where=request.url, found=f"HTTP {reply.status}: {said(reply.text)}")
        return reply

    def _post(self, request: Request) -> tuple[Reply, float]:
        """The reply, and for how long the server asks us to wait (seconds)."""
        import requests
        from urllib3.exceptions import HTTPError

        headers = {name: self._secrets.fill(value) for name, value in request.headers.items()}
        body = {"data" if isinstance(request.body, bytes) else "json": request.body}
        try:
            with self._session().post(
                request.url,
                headers=headers,
                files=request.files,  # type: ignore[arg-type]
                timeout=(CONNECT, self._manners.timeout),
                allow_redirects=False,
                stream=True,
                **body,
            ) as response:
                text = self._secrets.hide(self._read(response))
                return Reply(response.status_code, text), _asked_to_wait(response, text)
        except requests.Timeout:
            reason = f"no answer within {self._manners.timeout:g} s"
        except ValueError as error:  # an impossible URL or header: of requests, and it may show what is in it
            raise RequestError(
                "the request cannot be sent", where=request.url, found=self._secrets.hide(type(error).__name__)
            ) from None
        except (requests.RequestException, HTTPError, OSError) as error:
            reason = f"no whole answer ({type(error).__name__})"
        raise _PassingError(reason)

    def _read(self, response: Response) -> str:
        until, content = time.monotonic() + self._manners.timeout, bytearray()
        while piece := response.raw.read1(1 << 16, decode_content=True):  # what is there, not a whole piece
            content += piece
            if len(content) > LARGEST:
                raise UnansweredError(f"the answer is larger than {LARGEST >> 20} MiB")
            if time.monotonic() > until:  # the time-out of requests begins anew with each byte
                raise _PassingError(f"no whole answer within {self._manners.timeout:g} s")
        return content.decode("utf-8", "replace")

    def _session(self) -> Session:
        import requests

        if not hasattr(self._own, "session"):
            self._own.session = requests.Session()
            self._own.session.auth = _as_it_is  # a .netrc would take the place of the key
            self._sessions.append(self._own.session)
        session: Session = self._own.session
        return session


def said(text: str) -> str:
    """What a service says in the body of an error, in one line: its message, or the beginning of the body."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        row = text
    for name in ("error", "message", "detail"):
        if isinstance(row, dict) and row.get(name):
            row = row[name]
    told = row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)
    told = " ".join(told.split())
    return f"{told[:200]}..." if len(told) > 200 else told or "nothing"


def _as_it_is(request: Any) -> Any:
    return request


def _asked_to_wait(response: Response, text: str) -> float:
    """By the header, in seconds or as a date, or as Google writes it into the body."""
    asked = response.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", asked):
        return float(asked)
    if asked:
        try:
            until = parsedate_to_datetime(asked)
        except ValueError:
            return 0.0
        until = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
        return max(0.0, (until - datetime.now(UTC)).total_seconds())
    found = re.search(r'"retryDelay"\s*:\s*"(\d+(?:\.\d+)?)s"', text) if response.status_code == 429 else None
    return float(found[1]) if found else 0.0
