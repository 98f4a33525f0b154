"""The running server: a port that nobody else has, uvicorn in a thread, and an end in order."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import final

import uvicorn

from emonet.errors import EmonetError, RequestError
from emonet.serving.app import application
from emonet.serving.guards import connection_types
from emonet.serving.service import Service
from emonet.serving.settings import ServerSettings
from emonet.serving.streams import MOST_MESSAGE

BACKLOG = 256  # connections that wait to be taken
CONNECTIONS = 4  # times the requests at once; beyond them nobody is heard
GRACE = 30.0  # seconds that requests have to end once the server is told to
FAREWELL = 3.0  # seconds that live streams have
_TICK = 0.2  # seconds between two looks at whether the server still runs


@final
class EmotionServer:
    """The HTTP server; a context manager, which serves within its block.

    Args:
        settings: what it serves, where, to whom.

    Raises:
        RequestError: if the port is taken, there is no such model, or a setting cannot be used.
        EmonetError: if the registry cannot be used.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._listener = _listener(settings.host, settings.port)  # first: loading a model for nothing takes long
        try:
            self.service = Service(settings)
            self._server = _Uvicorn(_configuration(settings, self.service), self.service)
        except BaseException:
            self._listener.close()
            raise
        port = self._listener.getsockname()[1]
        self.address = f"http://{_in_url(settings.host)}:{port}"
        """Where it is reached from this machine."""
        self._thread = threading.Thread(target=self._run, name="server")
        # Waited for in place of the thread: where a signal raises while Python 3.11 joins one, the thread counts as
        # ended although it runs (python/cpython#90882), and the port would be closed under the server.
        self._ended = threading.Event()
        self._failure: BaseException | None = None

    def __enter__(self) -> EmotionServer:
        self._thread.start()
        while not self._server.started and not self._ended.wait(_TICK / 10):
            pass
        self._check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End in order: requests at work are answered, live streams are told; a second Ctrl-C does not wait."""
        self._server.should_exit = True
        while not self._ended.is_set():
            try:
                self._ended.wait(_TICK)
            except KeyboardInterrupt:
                self._server.force_exit = True
        self._listener.close()

    def wait(self) -> None:
        """Until the server ends by itself, or a signal raises here.

        Raises:
            EmonetError: if it ends by itself.
        """
        while not self._ended.wait(_TICK):
            pass
        self._check()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._listener])
        except BaseException as error:  # noqa: BLE001  # told by whoever waits
            self._failure = error
        finally:
            self._ended.set()

    def _check(self) -> None:
        if self._ended.is_set():
            raise EmonetError(
                "the server has stopped by itself",
                where=self.address,
                found=self._failure,
                hint="what it said is above",
            ) from self._failure


class _Uvicorn(uvicorn.Server):
    """Uvicorn, which says goodbye to live streams before it waits for what is at work."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        self._service.closing.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL):
                while self._service.streams:
                    await asyncio.sleep(0.02)
        await super().shutdown(sockets)


def _configuration(settings: ServerSettings, service: Service) -> uvicorn.Config:
    http, web_socket = connection_types(settings.idle)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # anybody can send what is no HTTP
    return uvicorn.Config(
        application(service),
        http=http,
        ws=web_socket,
        ws_max_size=MOST_MESSAGE,
        ws_per_message_deflate=False,  # samples hardly shrink, and what is unpacked may be large
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        root_path=settings.root_path,
        limit_concurrency=CONNECTIONS * settings.max_requests,
        timeout_graceful_shutdown=round(GRACE),
        backlog=BACKLOG,
    )


def _listener(host: str, port: int) -> socket.socket:
    """A socket that listens already: what is bound only could be bound twice.

    Raises:
        RequestError: if it cannot.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        raise RequestError(
            f"port {port} cannot be used" if taken else "this server cannot listen there",
            where=f"{host}:{port}",
            found=getattr(error, "strerror", None) or error,
            hint=f"another port: emonet serve --port {port + 1 if port < 65535 else 5001}" if taken else None,
        ) from error
    # Connections inherit it. asyncio sets it by itself only where a socket was made for IPPROTO_TCP by name; without it
    # the body of an answer waits until the client has acknowledged its head, which takes 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _in_url(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return f"[{address}]" if address.version == 6 else str(address)
