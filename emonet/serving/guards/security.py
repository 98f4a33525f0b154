"""Security of the HTTP server: host names, origins of pages, and tokens, looked at before anything is read."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import os
import threading
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from emonet.errors import RequestError
from emonet.serving.guards.refusals import Refusal

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
OPEN = frozenset({"/", "/docs", "/openapi.json", "/health", "/page/capture.js"})
"""Paths that need no token: they say nothing of models or recordings; /health says less without one."""
NEW_TOKEN = 'python -c "import secrets; print(secrets.token_urlsafe(32))"'  # noqa: S105
SHORTEST_TOKEN = 16  # characters
AUTHORISED = "emonet.authorised"  # in the state of a request
PROTOCOL = "emonet"
"""Subprotocol of WebSockets, for pages: scripts can set no header there, so beside it stands their token's."""
_BEARER = "emonet.bearer."  # then the token in URL-safe base64 without padding
_WILDCARDS = frozenset({"0.0.0.0", "::", ""})  # noqa: S104  # compared with, not bound to
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


@final
class Doors:
    """Lets a request in whose `Host` is a name of this server, and whose page, if any, is one that may ask.

    A page of another origin can make a browser send requests to this machine; one whose own name is turned into
    127.0.0.1 while it is open (DNS rebinding) even reads the answers. Its name stands in `Host` then.

    Args:
        app: what is inside.
        host: where the server listens.
        names: further names of it.
        origins: of pages that may ask beside its own.

    Raises:
        RequestError: if an origin is none.
    """

    def __init__(self, app: ASGIApp, host: str, names: Collection[str], origins: Collection[str]) -> None:
        self._app = app
        self._names = LOOPBACK | {name.lower().rstrip(".") for name in (host, *names)} - _WILDCARDS
        self._any_address = host in _WILDCARDS
        self._origins = frozenset(_checked_origin(origin) for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Of ASGI."""
        if scope["type"] in ("http", "websocket"):
            headers = Headers(scope=scope)
            self._check_host(headers.getlist("host"))
            self._check_origin(headers.getlist("origin"), headers.get("host", ""))
        await self._app(scope, receive, send)

    def _check_host(self, given: list[str]) -> None:
        name = _place("http", given[0])[0] if len(given) == 1 else ""
        # An address in `Host` is what the page's own address says: no name was turned into it.
        if name in self._names or (self._any_address and _is_address(name)):
            return
        raise Refusal(421, "this server does not answer to that host name", hint="its owner names it: --allow-hosts")

    def _check_origin(self, given: list[str], host: str) -> None:
        if not given:
            return
        origin = given[0] if len(given) == 1 else ""
        scheme, _, place = origin.partition("://")
        own = bool(place) and scheme in _PORTS and _place(scheme, place) == _place(scheme, host)
        if not own and origin.lower() not in self._origins:
            raise Refusal(
                403, "pages of that origin may not ask here", hint="the server's owner names it: --allow-origins"
            )


@final
class Keys:
    """Lets a request in that names one of the tokens.

    Args:
        app: what is inside.
        tokens: which there are; None asks nobody for one.
        root_path: that stands before every path.
    """

    def __init__(self, app: ASGIApp, tokens: Tokens | None, root_path: str) -> None:
        self._app, self._tokens, self._root = app, tokens, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Of ASGI."""
        if scope["type"] in ("http", "websocket"):
            given = Headers(scope=scope).getlist("authorization") or _of_protocols(scope.get("subprotocols", ()))
            known = self._tokens is None or self._tokens.know(given)
            if not known and (given or scope["path"].removeprefix(self._root) not in OPEN):
                raise Refusal(
                    401,
                    "this token is not known here" if given else "this server wants a token",
                    hint="Authorization: Bearer TOKEN",
                    headers={"WWW-Authenticate": 'Bearer realm="emonet"'},
                )
            scope.setdefault("state", {})[AUTHORISED] = known
        await self._app(scope, receive, send)


def _of_protocols(offered: Iterable[str]) -> list[str]:
    """What a page's WebSocket says in place of `Authorization`."""
    found = []
    for name in offered:
        if name.startswith(_BEARER):
            coded = name.removeprefix(_BEARER)
            with suppress(ValueError):
                token = base64.urlsafe_b64decode(coded + "=" * (-len(coded) % 4))
                found.append(f"Bearer {token.decode('utf-8', 'surrogateescape')}")
    return found


@final
class Tokens:
    """The tokens in a file, one a line (`#` begins a comment); it is read again when it changes.

    Args:
        path: of the file.

    Raises:
        RequestError: if it cannot be read, holds no token, or one that is easily guessed.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._stamp = _stamp(path)
        self._digests = _read_tokens(path)
        self.problem: str | None = None
        """Why the file, as it is now, is not used; what was read before still counts."""
        if not self._digests:
            raise _unusable(path, "no token in it")

    def know(self, given: list[str]) -> bool:
        """Whether a request's headers `Authorization` name one of the tokens, in a time that tells nothing of them."""
        self._refresh()
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        found = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
        matches = [hmac.compare_digest(found, one) for one in self._digests]
        return scheme.lower() == "bearer" and any(matches)

    def _refresh(self) -> None:
        with self._lock:
            stamp = _stamp(self._path)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            try:
                self._digests, self.problem = _read_tokens(self._path), None  # none at all: nobody is let in
            except RequestError as error:
                self.problem = f"{error.what}; the tokens that were read before still count"


def _read_tokens(path: Path) -> tuple[bytes, ...]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise _unusable(path, error) from error
    tokens = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    for number, token in enumerate(tokens, 1):
        if len(token) < SHORTEST_TOKEN or not token.isascii() or len(token.split()) > 1:
            raise _unusable(
                path, f"token {number} is shorter than {SHORTEST_TOKEN} characters, or has others than ASCII"
            )
    return tuple(hashlib.sha256(token.encode()).digest() for token in tokens)


def _unusable(path: Path, found: object) -> RequestError:
    return RequestError(
        "the file of tokens cannot be used",
        where=path,
        expected=f"a token a line, of at least {SHORTEST_TOKEN} characters without blanks",
        found=found,
        hint=f"{NEW_TOKEN} >> FILE; chmod 600 FILE",
    )


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        state = os.stat(path)  # noqa: PTH116  # at each request
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino


def _checked_origin(origin: str) -> str:
    scheme, colon, place = origin.lower().partition("://")
    if not colon or scheme not in ("http", "https") or not _place(scheme, place)[0] or set(place) & set("/?#*"):
        raise RequestError(
            "this is no origin of pages",
            where="allow_origins",
            expected="https://app.example.com or http://localhost:3000",
            found=repr(origin),
        )
    return f"{scheme}://{place}"


def _place(scheme: str, text: str) -> tuple[str, int | None]:
    """Host name and port of `HOST` or `HOST:PORT`; no name where it is neither."""
    try:
        parts = urlsplit(f"//{text}")
        if parts.netloc != text or "@" in text:
            return "", None
        return (parts.hostname or "").rstrip("."), parts.port or _PORTS.get(scheme)
    except ValueError:
        return "", None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
