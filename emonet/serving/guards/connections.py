"""Connections of the HTTP server: uvicorn's, which also cut off clients that send or take nothing for too long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


def connection_types(patience: float) -> tuple[type[H11Protocol], type[WebSocketsSansIOProtocol]]:
    """What uvicorn speaks HTTP and WebSockets with.

    Args:
        patience: how long a client may send no whole head of a request, or take nothing of an answer (seconds).
    """
    attributes = {"patience": patience}
    return type("Connection", (_Connection,), attributes), type("Socket", (_Socket,), attributes)


class _Timer:
    """Aborts a connection, unless it is stopped before."""

    def __init__(self) -> None:
        self._handle: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop, seconds: float, abort: Callable[[], None]) -> None:
        self.stop()
        self._handle = loop.call_later(seconds, abort)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()


class _Impatient(asyncio.Protocol):
    """Aborts where an answer is not taken; comes before a protocol of uvicorn's."""

    patience: float
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._taken = _Timer()
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._taken.stop()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        self._taken.start(self.loop, self.patience, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        self._taken.stop()
        super().resume_writing()


class _Connection(_Impatient, H11Protocol):
    """Aborts where no request is at work, too: ASGI sees none of that, and uvicorn waits for heads without end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._head = _Timer()
        super().connection_made(transport)
        self._head.start(self.loop, self.patience, self._abort_unless_at_work)

    def on_response_complete(self) -> None:
        # Also where the connection ends: what was written must be taken.
        self._head.start(self.loop, self.patience, self._abort_unless_at_work)
        super().on_response_complete()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._head.stop()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head.stop()
        super().connection_lost(exc)

    def _abort_unless_at_work(self) -> None:
        if getattr(self.cycle, "response_complete", True):  # there is none before the first request
            self.transport.abort()


class _Socket(_Impatient, WebSocketsSansIOProtocol):
    """Aborts where scores are not taken."""
