"""Servers of a tiny model, on real sockets."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from emonet.serving import EmotionServer, ServerSettings


@pytest.fixture(scope="session")
def start_server(voice: Path) -> Iterator[Callable[..., EmotionServer]]:
    """Start a server with these settings; all end with the tests."""
    with ExitStack() as stack:

        def start(**settings: Any) -> EmotionServer:
            given = {"model": str(voice), "port": 0, "device": "cpu", **settings}
            return stack.enter_context(EmotionServer(ServerSettings(**given)))

        yield start


@pytest.fixture(scope="session")
def server(start_server: Callable[..., EmotionServer]) -> EmotionServer:
    """A server with its defaults."""
    return start_server()


@pytest.fixture(scope="session")
def strict_server(start_server: Callable[..., EmotionServer]) -> EmotionServer:
    """A server with narrow limits and little patience."""
    return start_server(max_megabytes=0.2, idle=0.5, max_requests=2, max_streams=1, max_recordings=3, max_minutes=0.1)


@pytest.fixture
def connect() -> Iterator[Callable[[EmotionServer], socket.socket]]:
    """Connect to a server without a library that keeps rules."""
    with ExitStack() as stack:

        def to(server: EmotionServer) -> socket.socket:
            parts = urlsplit(server.address)
            assert parts.hostname is not None
            opened = socket.create_connection((parts.hostname, parts.port or 80), timeout=20)
            return stack.enter_context(closing(opened))

        yield to
