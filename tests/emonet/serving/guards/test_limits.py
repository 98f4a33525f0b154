"""Limits hold while a body comes: size, pace, requests at once, time."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from emonet.runtime import resident_bytes
from emonet.serving import EmotionServer
from tests.emonet.serving.raw import head, status_and_body, until_closed

Connect = Callable[[EmotionServer], socket.socket]


def test_a_body_that_says_it_is_too_large(strict_server: EmotionServer, connect: Connect) -> None:
    opened = connect(strict_server)
    opened.sendall(head(strict_server, "/v1/score", "Content-Type: audio/wav", "Content-Length: 100000000"))
    status, told = status_and_body(until_closed(opened))
    assert (status, told["error"]) == (413, "the body is larger than 0.2 MB")


@pytest.mark.slow
def test_a_body_that_never_ends(strict_server: EmotionServer, connect: Connect) -> None:
    opened = connect(strict_server)
    opened.sendall(head(strict_server, "/v1/score", "Content-Type: audio/wav", "Transfer-Encoding: chunked"))
    sent, began, said = 0, time.monotonic(), b""
    opened.settimeout(0.01)
    while time.monotonic() - began < 10:
        try:
            opened.sendall(b"1000\r\n" + bytes(4096) + b"\r\n")
            sent += 4096
        except TimeoutError:
            pass
        except OSError:
            break
        try:
            said += opened.recv(65536)
        except TimeoutError:
            continue
        except ConnectionResetError:
            break
    assert status_and_body(said)[0] == 413  # it was told, though it went on
    assert time.monotonic() - began < 9  # and cut off


def test_a_hundred_megabytes_of_base64(server: EmotionServer) -> None:
    before = resident_bytes()
    body = b'{"audio": "' + base64.b64encode(bytes(3 << 15)) * 800 + b'"}'
    assert len(body) > 100e6
    answer = requests.post(
        f"{server.address}/v1/score", iter([body[at : at + 65536] for at in range(0, len(body), 65536)]),
        headers={"Content-Type": "application/json"}, timeout=60,
    )  # fmt: skip
    assert answer.status_code == 413
    assert "larger than 50 MB" in answer.json()["error"]
    del body
    assert resident_bytes() - before < 400e6  # its parts here among them


@pytest.mark.parametrize("pause", [0.2, 3.0], ids=["drop by drop", "silent"])
def test_a_client_that_sends_slowly(pause: float, strict_server: EmotionServer, connect: Connect) -> None:
    opened = connect(strict_server)
    opened.sendall(head(strict_server, "/v1/score", "Content-Type: audio/wav", "Content-Length: 1000"))
    began = time.monotonic()
    opened.settimeout(pause)
    said = b""
    while not said and time.monotonic() - began < 10:
        opened.sendall(b"x")
        try:
            said = opened.recv(65536)
        except TimeoutError:
            continue
    assert said.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("first", [b"", b"POST /v1/score HTTP/1.1\r\nHost: loc"], ids=["nothing", "half a head"])
def test_a_client_that_sends_no_head(first: bytes, strict_server: EmotionServer, connect: Connect) -> None:
    opened = connect(strict_server)
    opened.sendall(first)
    began = time.monotonic()
    assert until_closed(opened) == b""
    assert 0.3 < time.monotonic() - began < 5


def test_a_client_that_goes_on_after_its_answer(strict_server: EmotionServer, connect: Connect) -> None:
    opened = connect(strict_server)
    opened.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert opened.recv(65536).startswith(b"HTTP/1.1 200")
    began = time.monotonic()
    while time.monotonic() - began < 10:
        try:
            opened.sendall(b"G")  # each byte would count as life
            time.sleep(0.1)
        except OSError:
            break
    assert time.monotonic() - began < 5


@pytest.mark.slow
def test_a_client_that_takes_no_answer(server: EmotionServer, start_server: Any, make_wav: Any) -> None:
    impatient = start_server(idle=0.5)
    page = requests.get(impatient.address + "/docs", timeout=20).content
    with socket.socket() as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        opened.settimeout(20)
        opened.connect(("127.0.0.1", int(impatient.address.rpartition(":")[2])))
        many = 20_000_000 // len(page)
        try:
            opened.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * many)
        except OSError:  # cut while it still asks
            return
        time.sleep(2)
        assert len(until_closed(opened)) < 20_000_000


def test_more_requests_than_are_taken_on(start_server: Any, connect: Connect) -> None:
    server = start_server(max_requests=2)

    def ask(wanted: int) -> requests.Response:
        deadline, headers = time.monotonic() + 8, {"Content-Type": "audio/wav"}
        while True:
            answer = requests.post(f"{server.address}/v1/score", data=b"x", headers=headers, timeout=20)
            if answer.status_code == wanted or time.monotonic() > deadline:
                assert answer.status_code == wanted
                return answer

    waiting = [connect(server) for _ in range(2)]
    for one in waiting:
        one.sendall(head(server, "/v1/score", "Content-Type: audio/wav", "Content-Length: 90") + b"x")
    refused = ask(429)
    assert refused.headers["retry-after"] == "1"
    assert "2 requests are at work" in refused.json()["error"]
    assert requests.get(f"{server.address}/health", timeout=20).status_code == 200  # costs nothing
    for one in waiting:
        one.close()
    ask(422)  # there is room again


def test_an_answer_that_is_not_ready_in_time(start_server: Any, make_wav: Callable[..., Path]) -> None:
    hurried = start_server(timeout=0.3)
    scores = hurried.service.scores
    held = threading.Event()
    blocker = scores.announce(1)
    keep = scores._run_items
    scores._run_items = lambda by, items: (held.wait(5), keep(by, items))[1]  # a pass that takes long
    try:
        answer = requests.post(f"{hurried.address}/v1/score", files={"file": make_wav().read_bytes()}, timeout=20)
    finally:
        held.set()
        blocker.__exit__(None, None, None)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"] == "the answer was not ready within 0.3 s"


def test_every_refusal_has_one_form(server: EmotionServer) -> None:
    asked = [
        requests.get(f"{server.address}/nowhere", timeout=20),
        requests.get(f"{server.address}/v1/score", timeout=20),
        requests.post(f"{server.address}/v1/score", timeout=20),
        requests.post(f"{server.address}/v1/timeline?hop=-1", timeout=20),
        requests.post(f"{server.address}/v1/caption", timeout=20),
    ]
    assert [one.status_code for one in asked] == [404, 405, 415, 400, 501]
    for one in asked:
        assert set(json.loads(one.content)) == {"error", "hint"}
        assert one.headers["x-content-type-options"] == "nosniff"
