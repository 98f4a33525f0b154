"""Refusals: why a request is not answered, as status, sentence and hint; the same form for every status above 399."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType

from starlette.formparsers import MultiPartException
from starlette.types import Send

from emonet.errors import EmonetError

RETRY_AFTER = MappingProxyType({"Retry-After": "1"})  # seconds


class Refusal(MultiPartException):
    """A request is refused. (Starlette's parser of forms removes its files when it sees one of these.)

    Args:
        status: of HTTP.
        error: one sentence, what is wrong.
        hint: what to do about it.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        error: str,
        *,
        hint: str | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(error)
        self.status, self.error, self.hint, self.headers = status, error, hint, headers

    @classmethod
    def of(cls, error: EmonetError, status: int) -> Refusal:
        """The refusal that an error of ours stands for."""
        return cls(status, error.what, hint=error.hint)

    @property
    def body(self) -> bytes:
        """Of the answer, JSON."""
        return json.dumps({"error": self.error, "hint": self.hint}, ensure_ascii=False).encode("utf-8", "replace")


def too_busy(what: str) -> Refusal:
    """There is more to do than the server takes on."""
    return Refusal(429, what, hint="ask again in a second", headers=RETRY_AFTER)


async def send_refusal(refusal: Refusal, kind: str, send: Send) -> None:
    """Answer a request, or the opening of a WebSocket.

    Args:
        refusal: why it is refused.
        kind: of the connection, `http` or `websocket`.
        send: of ASGI.
    """
    body = refusal.body
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **refusal.headers}
    prefix = "http.response" if kind == "http" else "websocket.http.response"
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": f"{prefix}.start", "status": refusal.status, "headers": raw})
    await send({"type": f"{prefix}.body", "body": body, "more_body": False})
