"""Recordings on web servers: with ranges and without, servers that are busy, and what is not there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from emonet.errors import EmonetError, RequestError
from emonet.objects import Objects, read_range, size_of, sizes_of, stamp_of_object, web

CONTENT = bytes(range(256)) * 4


class _Handler(BaseHTTPRequestHandler):
    asked: ClassVar[list[str]]

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        self.asked.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
        if self.path == "/busy" and len(self.asked) < 3:
            return self.reply(503, b"", {})
        if self.path.endswith("no-head") and not body:
            return self.reply(200, b"", {}, length=False)
        if self.path.startswith("/signed") and not body:
            return self.reply(403, b"", {})
        wanted = self.headers.get("Range")
        if self.path == "/dated":
            return self.reply(200, CONTENT, {"Last-Modified": "today"})
        if self.path in ("/gone", "/secret"):
            return self.reply(404 if self.path == "/gone" else 403, b"", {})
        if wanted is None or self.path.startswith("/plain"):
            return self.reply(200, CONTENT if body else b"", {"Content-Length": str(len(CONTENT))}, length=False)
        first, last = map(int, wanted.removeprefix("bytes=").split("-"))
        if first >= len(CONTENT):
            return self.reply(416, b"", {})
        part = CONTENT[first : last + 1]
        return self.reply(206, part, {"Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(CONTENT)}"})

    def reply(self, status: int, content: bytes, headers: dict[str, str], length: bool = True) -> None:
        self.send_response(status)
        for name, value in (headers | ({"Content-Length": str(len(content))} if length else {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    class Handler(_Handler):
        asked: ClassVar[list[str]] = []

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}", Handler.asked
    served.shutdown()
    served.server_close()


@pytest.mark.parametrize("name", ["a.wav", "plain.wav", "a%20b.wav?download=1", "busy"])
def test_sizes_and_ranges(
    name: str, server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(web, "_BACK_OFF", 0.01)
    web._pool.cache_clear()
    request.addfinalizer(web._pool.cache_clear)
    address = f"{server[0]}/{name}"
    assert size_of(address) == len(CONTENT)
    assert read_range(address, 100, 50) == CONTENT[100:150]
    assert read_range(address, 1000, 50) == CONTENT[1000:]
    assert read_range(address, 5000, 50) == b""
    assert Objects.open(server[0]).read(name) == CONTENT
    assert Objects.open(server[0]).read_ranges(name, [0, 9], [3, 3]) == [CONTENT[:3], CONTENT[9:12]]


def test_what_a_server_does_not_give(server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    root, _ = server
    assert sizes_of([f"{root}/a", f"{root}/gone"]) == {f"{root}/a": len(CONTENT), f"{root}/gone": None}
    assert size_of(f"{root}/no-head") == len(CONTENT)
    assert size_of(f"{root}/signed?signature=1") == len(CONTENT)
    with pytest.raises(RequestError, match=r"(?s)does not give this.*/secret.*status 403"):
        size_of(f"{root}/secret")
    with pytest.raises(FileNotFoundError, match="there is nothing at http"):
        read_range(f"{root}/gone", 0, 5)
    with pytest.raises(RequestError, match=r"(?s)does not give this.*/secret.*status 403"):
        read_range(f"{root}/secret", 0, 5)
    objects = Objects.open(root)
    refused: list[Callable[[], object]] = [lambda: objects.write("x", b""), lambda: objects.delete(["x"])]
    for refuse in refused:
        with pytest.raises(RequestError, match="nothing can be written here"):
            refuse()
    with pytest.raises(RequestError, match="cannot be listed"):
        list(objects.list())
    monkeypatch.setattr(web, "_TRIES", 0)
    web._pool.cache_clear()
    with pytest.raises(EmonetError, match=r"(?s)the server does not answer.*http://127\.0\.0\.1:9/x"):
        size_of("http://127.0.0.1:9/x")
    web._pool.cache_clear()


def test_near_ranges_are_one_request(server: tuple[str, list[str]]) -> None:
    root, asked = server
    assert Objects.open(root).read_ranges("a", [0, 500], [3, 3]) == [CONTENT[:3], CONTENT[500:503]]
    assert asked == ["GET /a bytes=0-502"]


def test_a_server_without_ranges_is_not_asked_for_everything_again_and_again(
    server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, asked = server
    monkeypatch.setattr(web, "WHOLE", 100)
    for part in ("emonet.objects.folder.PART", "emonet.objects.folder.Objects._part"):
        monkeypatch.setattr(part, 100)
    assert read_range(f"{root}/plain", 0, len(CONTENT)) == CONTENT
    assert len(asked) == 1
    assert read_range(f"{root}/a", 7, 5) == CONTENT[7:12]
    with pytest.raises(RequestError, match=r"(?s)gives no ranges of this.*/plain.*5 bytes.*1,024 bytes.*download it"):
        read_range(f"{root}/plain", 7, 5)


def test_stamps_of_a_server_without_ranges_or_head(server: tuple[str, list[str]]) -> None:
    root, _ = server
    assert size_of(f"{root}/plain-no-head") == len(CONTENT)
    assert stamp_of_object(f"{root}/dated") == (len(CONTENT), "today")
