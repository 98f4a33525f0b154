"""A server of this machine that speaks what services of scores are documented to speak; tests say what it answers."""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest.mock import patch


@dataclass(frozen=True)
class Heard:
    """A request that came."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def parts(self) -> dict[str, tuple[str | None, str, bytes]]:
        """File name, content type and content of each part of a form."""
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        message = BytesParser().parsebytes(head + self.body)
        return {
            str(part.get_param("name", header="content-disposition")): (
                part.get_filename(),
                part.get_content_type(),
                part.get_payload(decode=True) or b"",
            )
            for part in message.get_payload()
        }


@dataclass
class Says:
    """What the server says to one request."""

    body: Any = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    """Whether the connection ends in the middle of the body."""
    after: float = 0.0
    """Seconds until it says it; the test's end does not wait for them."""
    drip: float = 0.0
    """Seconds between its bytes."""
    chunked: bool = False
    """Whether it is sent in chunks, compressed."""


@dataclass
class PeerServer:
    """Answers by `answer`, one request after the other in `heard`."""

    url: str
    heard: list[Heard]
    answer: Callable[[Heard], Says]


def _chunks(content: bytes, *, ends: bool) -> bytes:
    parts = [content[n : n + 20] for n in range(0, len(content), 20)]
    sent = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (parts if ends else parts[:-1]))
    return sent + (b"0\r\n\r\n" if ends else b"")


@contextmanager
def peer_server(answer: Callable[[Heard], Says]) -> Iterator[PeerServer]:
    """Serve until the block ends."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = Heard(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            serving.heard.append(request)
            says = serving.answer(request)
            if says.after and ended.wait(says.after):
                return
            content = says.body if isinstance(says.body, bytes) else json.dumps(says.body).encode()
            self.send_response(says.status)
            for name, value in says.headers.items():
                self.send_header(name, value)
            if says.chunked:
                content = _chunks(gzip.compress(content), ends=not says.cut)
                self.send_header("Transfer-Encoding", "chunked")
                self.send_header("Content-Encoding", "gzip")
            else:
                self.send_header("Content-Length", str(len(content) + (10 if says.cut else 0)))
            self.end_headers()
            for n in range(len(content) if says.drip else 0):
                self.wfile.write(content[n : n + 1])
                if ended.wait(says.drip):
                    return
            self.wfile.write(b"" if says.drip else content)
            self.close_connection = self.close_connection or says.cut

        def handle(self) -> None:
            with suppress(ConnectionError):  # who asked has gone
                super().handle()

        def log_message(self, *_: object) -> None:
            pass

    ours = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    with patch.dict(os.environ, ours), ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        serving = PeerServer(f"http://127.0.0.1:{server.server_address[1]}", [], answer)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield serving
        finally:
            ended.set()
            server.shutdown()
            thread.join()
