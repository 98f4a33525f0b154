"""Limits of the HTTP server: requests at once, bytes of a body while it comes, its pace, and the time for an answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emonet.serving.guards.refusals import RETRY_AFTER, Refusal, send_refusal, too_busy
from emonet.serving.settings import ServerSettings

SLOWEST = 10_000  # bytes a second that a body must have on average, after the first seconds
HELD = 4  # largest bodies that all requests together may hold
LINGER = 2.0  # seconds in which what a refused client still sends is read and dropped, so that it sees the answer
GONE = 499  # status, in metrics only, of a client that does not wait for its answer
_LIMITED = "/v1/"  # paths that cost something begin so

_logger = logging.getLogger(__name__)
Observe = Callable[[Scope, int, float], None]


@final
class Guard:
    """Outermost: every refusal and every failure becomes an answer, and a client that still sends gets to see it.

    Args:
        app: what is inside.
        observe: is told of each request, with status and seconds.
    """

    def __init__(self, app: ASGIApp, observe: Observe) -> None:
        self._app, self._observe = app, observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Of ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        exchange, begun = _Exchange(scope, receive, send), time.monotonic()
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Refusal as refusal:
            await exchange.refuse(refusal)
        except Exception:
            _logger.exception("a request has failed: %s", scope["path"])
            await exchange.refuse(Refusal(500, "the server has failed at this request; its log says why"))
        finally:
            self._observe(scope, exchange.status, time.monotonic() - begun)


class _Exchange:
    """A request and its answer, as far as they have come."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.status = 0
        self._kind, self._receive, self._send = scope["type"], receive, send
        headers = Headers(scope=scope)
        has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        self._unread = self._kind == "http" and has_body

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"].endswith("response.start"):
            self.status = message["status"]
            more = [(b"x-content-type-options", b"nosniff")]
            more += [(b"connection", b"close")] if self._unread else []  # nothing more is read on this connection
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        elif message["type"] == "websocket.accept":
            self.status = 101
        if self._unread and message["type"] == "http.response.body" and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._drain()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def refuse(self, refusal: Refusal) -> None:
        if not self.status:
            await send_refusal(refusal, self._kind, self.send)

    async def _drain(self) -> None:
        """A connection that is closed while its client sends is reset, and the answer may be lost on the way."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while self._unread:
                    await self.receive()


@final
class Limits:
    """Takes on no more than the server can do; what costs nothing (health, metrics) is always answered.

    Args:
        app: what is inside.
        settings: the limits.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app, self._settings = app, settings
        self.requests = 0  # at work (count)
        self.held = 0  # bytes of their bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Of ASGI."""
        path = scope.get("path", "").removeprefix(self._settings.root_path)
        if scope["type"] != "http" or not path.startswith(_LIMITED):
            await self._app(scope, receive, send)
            return
        if self.requests >= self._settings.max_requests:
            raise too_busy(f"{self.requests} requests are at work, which is all that this server takes on")
        body = _Body(self, receive, Headers(scope=scope), self._settings)
        self.requests += 1
        try:
            await self._in_time(scope, body, send)
        finally:
            self.requests -= 1
            self.held -= body.size

    async def _in_time(self, scope: Scope, body: _Body, send: Send) -> None:
        try:
            async with asyncio.timeout(self._settings.timeout) as limit:

                async def answer(message: Message) -> None:
                    limit.reschedule(None)  # how fast a client takes its answer is the connection's business
                    await send(message)

                await self._app(scope, body.receive, answer)
        except TimeoutError as error:
            if not limit.expired():
                raise
            if not body.ended:
                raise _too_slow() from error
            what = f"the answer was not ready within {self._settings.timeout:g} s"
            raise Refusal(503, what, headers=RETRY_AFTER) from error


class _Body:
    """A body as it comes: counted, and no slower than it may be."""

    def __init__(self, limits: Limits, receive: Receive, headers: Headers, settings: ServerSettings) -> None:
        self._limits, self._receive, self._settings = limits, receive, settings
        self._begun = time.monotonic()
        self.size, self.ended = 0, False
        told = headers.get("content-length", "")
        if told.isdecimal() and int(told) > settings.most_bytes:
            raise _too_large(settings)

    async def receive(self) -> Message:
        if self.ended:
            return await self._receive()
        patience = self._settings.idle
        slowest = self._begun + patience + self.size / SLOWEST - time.monotonic()
        try:
            async with asyncio.timeout(min(patience, max(0.0, slowest))):
                message = await self._receive()
        except TimeoutError as error:
            raise _too_slow() from error
        if message["type"] == "http.disconnect":
            raise Refusal(GONE, "the client went away")
        self._take(len(message.get("body", b"")))
        self.ended = not message.get("more_body", False)
        return message

    def _take(self, count: int) -> None:
        self.size += count
        self._limits.held += count
        if self.size > self._settings.most_bytes:
            raise _too_large(self._settings)
        if self._limits.held > HELD * self._settings.most_bytes:
            raise too_busy("the bodies of all requests together are more than this server holds")


def _too_large(settings: ServerSettings) -> Refusal:
    return Refusal(
        413,
        f"the body is larger than {settings.max_megabytes:g} MB",
        hint="send FLAC or MP3 in place of WAV, files in place of base64, or fewer recordings",
    )


def _too_slow() -> Refusal:
    return Refusal(408, "the body came too slowly")
