"""Requests without a library that keeps rules."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit

from emonet.serving import EmotionServer


def head(server: EmotionServer, path: str, *lines: str) -> bytes:
    """The head of a POST."""
    host = urlsplit(server.address).netloc
    return "\r\n".join([f"POST {path} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode()


def until_closed(opened: socket.socket) -> bytes:
    """All that a server says until it closes the connection; a reset counts as its end."""
    said = b""
    try:
        while part := opened.recv(65536):
            said += part
    except ConnectionResetError:
        pass
    return said


def status_and_body(said: bytes) -> tuple[int, Any]:
    """Of an answer."""
    first, _, rest = said.partition(b"\r\n")
    return int(first.split()[1]), json.loads(rest.partition(b"\r\n\r\n")[2])
