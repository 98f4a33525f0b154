from __future__ import annotations

import base64
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emonet.errors import AudioError, RequestError
from emonet.serving import fetching
from emonet.serving.fetching import Host, fetch
from emonet.serving.sources import SourceRules, open_source

ANY = SourceRules()
SOUND = bytes(range(256)) * 4


class Answers(BaseHTTPRequestHandler):
    """A host of audio: files, redirects, and what goes wrong."""

    def do_GET(self) -> None:
        port = self.server.server_address[1]
        places = {
            "/here": "/a.wav",
            "/loop": "/loop",
            "/there": f"http://localhost:{port}/a.wav",
            "/metadata": "http://169.254.169.254/latest",
            "/file": "file:///etc/passwd",
        }
        if self.path in places:
            self.send_response(302)
            self.send_header("Location", places[self.path])
            self.end_headers()
        elif self.path == "/short":
            self.answer(SOUND, len(SOUND) + 10)
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"x" * 65536)
            except OSError:
                return
        elif self.path == "/slow":
            self.send_response(200)
            self.end_headers()
            self.drip(b"")
        elif self.path == "/slow-headers":
            self.drip(b"HTTP/1.0 200 OK\r\nX: ")
        elif self.path.partition("?")[0] == "/a.wav":
            self.answer(SOUND, len(SOUND))
        else:
            self.send_error(404)

    def drip(self, start: bytes) -> None:
        """Never end, and never let a socket be idle for long."""
        try:
            self.wfile.write(start)
            while True:
                self.wfile.write(b"x")
                time.sleep(0.05)
        except OSError:
            return

    def answer(self, body: bytes, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


@pytest.fixture
def allowed(port: int) -> tuple[Host, ...]:
    return (Host.parse(f"127.0.0.1:{port}"),)


@given(st.binary(min_size=193, max_size=3000))
def test_base64_is_told_by_its_look(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    assert open_source(text, ANY) == data
    assert open_source(base64.encodebytes(data).decode(), ANY) == data  # broken into lines
    assert open_source(f"data:audio/wav;base64,{text}", ANY) == data
    assert open_source(bytearray(data), SourceRules("off")) == data


@pytest.mark.parametrize(
    "text", ["a.wav", "folder/a", "/abs/a.flac", "UklGRgAA", "~/x.wav", "ümlaut.wav", "a" * 255 + ".wav", "c:a.wav"]
)
def test_what_looks_like_a_path_is_one(text: str) -> None:
    assert open_source(text, ANY) == Path(text)
    assert open_source(Path(text), ANY) == Path(text)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (None, "no audio: nothing"),
        (float("nan"), "no audio: nothing"),
        ("", "no audio: nothing"),
        (" ", "no audio: nothing"),
        (np.zeros(2), "no audio: ndarray"),
        ("ä" * 5000, "not base64: "),
        (3, "no audio: int"),
        ({"audio": "a.wav"}, "no audio: dict"),
        ("data:audio/wav,abc", "a data URI without base64"),
        ("data:audio/wav;base64,a$c=", "not base64: "),
        ("data:audio/wav;base64,abcde", "not base64: "),
        ("A!" * 3000, "not base64: "),
        ("s3://bucket/a.wav", "URLs of s3:// are not taken"),
        ("file:///etc/passwd", "URLs of file:// are not taken"),
        ("https://example.com/a.wav", r"URLs of example\.com are not allowed"),
    ],
)
def test_what_is_no_source_is_told_in_a_line(source: object, reason: str) -> None:
    with pytest.raises(AudioError, match=reason) as told:
        open_source(source, ANY)
    assert "\n" not in told.value.what


def test_what_is_too_large_is_not_decoded() -> None:
    rules = replace(ANY, most_bytes=1000)
    for source in (b"x" * 1001, "A" * 9000, "data:audio/wav;base64," + "A" * 9000):
        with pytest.raises(AudioError, match=r"larger than 0\.001 MB"):
            open_source(source, rules)
    assert open_source("A" * 9000, replace(ANY, most_bytes=7000)) == bytes(6750)


def test_paths_stay_within_their_folder(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    for file in (folder / "a.wav", folder / "deep" / "b.wav", tmp_path / "out.wav"):
        file.write_bytes(SOUND)
    (folder / "link.wav").symlink_to(tmp_path / "out.wav")
    rules = SourceRules(folder)
    assert open_source("a.wav", rules) == folder / "a.wav"
    assert open_source(str(folder / "deep" / "b.wav"), rules) == folder / "deep" / "b.wav"
    assert open_source("deep/../a.wav", rules) == folder / "a.wav"
    for path in ("../out.wav", str(tmp_path / "out.wav"), "link.wav", "/etc/passwd", "../no-such-file.wav"):
        with pytest.raises(AudioError, match="outside of the folder"):
            open_source(path, rules)
    with pytest.raises(AudioError, match="not a path: embedded null"):
        open_source("a\0.wav", rules)
    with pytest.raises(AudioError, match="paths are not allowed here"):
        open_source(str(folder / "a.wav"), SourceRules("off"))


def test_rules_come_from_the_configuration_and_the_environment(tmp_path: Path) -> None:
    assert SourceRules.read({}, {}) == ANY
    settings = {"allow_paths": "off", "allow_urls": ["Media.example.com", "10.0.0.5:9000"]}
    hosts = (Host("media.example.com"), Host("10.0.0.5", 9000))
    assert SourceRules.read(settings, {}) == SourceRules("off", hosts)
    operator = {"EMONET_ALLOW_PATHS": str(tmp_path), "EMONET_ALLOW_URLS": "a.org, b.org:8080"}
    assert SourceRules.read(settings, operator) == SourceRules(tmp_path, (Host("a.org"), Host("b.org", 8080)))
    assert SourceRules.read(settings, {"EMONET_ALLOW_URLS": ""}).urls == ()
    with pytest.raises(RequestError, match=r"(?s)paths are allowed in does not exist.*any, off or a folder.*nowhere"):
        SourceRules.read({"allow_paths": "/nowhere"}, {})


@pytest.mark.parametrize(
    "host", ["*", "*.example.com", "https://example.com", "a.org/x", "u@a.org", "", "a.org:x", "a b"]
)
def test_a_host_that_is_none(host: str) -> None:
    with pytest.raises(RequestError, match=r"(?s)no host that URLs could be allowed from.*HOST or HOST:PORT"):
        Host.parse(host)


def test_an_allowed_url_is_fetched(port: int, allowed: tuple[Host, ...]) -> None:
    for path in ("a.wav", "a.wav?signature=x", "here"):
        assert open_source(f"http://127.0.0.1:{port}/{path}", SourceRules("off", allowed)) == SOUND


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("none.wav", "the host answered 404"),
        ("loop", "more than 3 redirects"),
        ("there", r"redirects to http://localhost:\d+, which is not followed"),
        ("metadata", r"redirects to http://169\.254\.169\.254, which is not followed"),
        ("file", "no http or https URL"),
        ("short", "ended 10 bytes too early"),
        ("endless", "larger than 1 MB"),
    ],
)
def test_what_goes_wrong_in_a_download(port: int, allowed: tuple[Host, ...], path: str, reason: str) -> None:
    with pytest.raises(AudioError, match=reason):
        fetch(f"http://127.0.0.1:{port}/{path}", allowed, limit=1_000_000)


@pytest.mark.parametrize("path", ["slow", "slow-headers"])
def test_a_download_ends(port: int, allowed: tuple[Host, ...], path: str) -> None:
    """The host itself would go on for ever."""
    with pytest.raises(AudioError, match="takes too long"):
        fetch(f"http://127.0.0.1:{port}/{path}", allowed, deadline=0.2)


def test_lines_of_base64_do_not_cost_an_object_each() -> None:
    text = "QUJD " * 200_000
    tracemalloc.start()
    try:
        assert len(cast("bytes", open_source(text, ANY))) == 600_000
        assert tracemalloc.get_traced_memory()[1] < 5 * len(text)
    finally:
        tracemalloc.stop()


def test_a_host_that_is_not_there() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with pytest.raises(AudioError, match=r"cannot be fetched: .*refused"):
        fetch(f"http://127.0.0.1:{port}/a.wav", [Host("127.0.0.1", port)])
    with pytest.raises(AudioError, match=r"cannot be fetched: .*label"):
        fetch(f"http://{'a' * 64}.org/a.wav", [Host(f"{'a' * 64}.org")])


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}@evil.example/a.wav",
        "http://user@127.0.0.1:{port}/a.wav",
        "http://127.0.0.1:{port}/a b.wav",
        "http://127.0.0.1:{port}/\r\nHost: x",
        "http:///a.wav",
        "http://127.0.0.1:99999/",
        "http://[::1/",
    ],
)
def test_urls_that_could_be_read_in_two_ways_are_refused(port: int, allowed: tuple[Host, ...], url: str) -> None:
    with pytest.raises(AudioError, match="no http or https URL"):
        fetch(url.format(port=port), allowed)


@pytest.mark.parametrize("url", ["http://127.0.0.1/a.wav", "https://127.0.0.1:{port}0/a", "http://2130706433:{port}/a"])
def test_only_the_listed_host_and_port(port: int, allowed: tuple[Host, ...], url: str) -> None:
    with pytest.raises(AudioError, match=r"are not allowed|no http or https URL"):
        fetch(url.format(port=port), allowed)


def test_an_address_that_does_not_answer_is_passed_over(port: int) -> None:
    with fetching._reached(["::1", "127.0.0.1"], port) as reached:
        assert reached.getpeername() == ("127.0.0.1", port)


def test_a_name_that_leads_into_the_network_is_refused(port: int) -> None:
    with pytest.raises(AudioError, match="localhost has an address that is not public"):
        fetch(f"http://localhost:{port}/a.wav", [Host("localhost", port)])


@pytest.mark.parametrize(
    ("address", "public"),
    [
        *(("8.8.8.8", True), ("2606:4700::1111", True), ("127.0.0.1", False), ("10.1.2.3", False)),
        *(("169.254.169.254", False), ("192.168.1.1", False), ("100.64.0.1", False), ("0.0.0.0", False)),
        *(("224.0.0.1", False), ("::1", False), ("fe80::1%eth0", False), ("fd00::1", False)),
        *(("::7f00:1", False), ("fec0::1", False), ("2001:4860:4860::8888", True)),
        *(("::ffff:8.8.8.8", False), ("64:ff9b::a00:1", False), ("2002:7f00:1::", False)),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert fetching._is_public(address) is public
