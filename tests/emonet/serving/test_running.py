"""A server's port, and its end: requests at work are answered, live streams are told."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from emonet.errors import EmonetError, RequestError
from emonet.serving import EmotionServer, ServerSettings


@pytest.fixture
def settings(voice: Path) -> Callable[..., ServerSettings]:
    return lambda **more: ServerSettings(**{"model": str(voice), "port": 0, "device": "cpu", **more})


def test_a_second_server_on_the_port(server: EmotionServer, settings: Callable[..., ServerSettings]) -> None:
    port = urlsplit(server.address).port
    assert port is not None
    with pytest.raises(RequestError, match=rf"(?s)port {port} cannot be used.*in use.*emonet serve --port {port + 1}"):
        EmotionServer(settings(port=port))


def test_the_body_of_an_answer_does_not_wait_for_its_head(
    server: EmotionServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Nagle's algorithm is left on, the client acknowledges the head after 40 ms, and gets the body then."""
    taken: list[int] = []
    accept = socket.socket.accept

    def accepted(self: socket.socket) -> tuple[socket.socket, Any]:
        connection, address = accept(self)
        taken.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        return connection, address

    monkeypatch.setattr(socket.socket, "accept", accepted)
    assert requests.get(f"{server.address}/health", timeout=20).ok
    assert taken
    assert all(taken)


def test_addresses_that_are_not_of_this_machine(settings: Callable[..., ServerSettings]) -> None:
    with pytest.raises(RequestError, match=r"(?s)cannot listen there.*203\.0\.113\.1:0"):
        EmotionServer(settings(host="203.0.113.1"))


def test_a_model_that_is_none_leaves_the_port(settings: Callable[..., ServerSettings], tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for _ in range(2):  # the second time the port is free again
        with pytest.raises(RequestError, match=r"no voice model|does not exist|no such"):
            EmotionServer(settings(port=port, model=str(tmp_path / "none")))


def test_what_is_at_work_ends_in_order(settings: Callable[..., ServerSettings], make_wav: Any) -> None:
    content, answers, begun = make_wav().read_bytes(), [], threading.Event()
    with EmotionServer(settings()) as server:
        scores = server.service.scores
        keep = scores._run_items
        scores._run_items = lambda by, items: (begun.set(), time.sleep(1), keep(by, items))[2]
        asking = threading.Thread(
            target=lambda: answers.append(requests.post(f"{server.address}/v1/score", files={"f": content}, timeout=30))
        )
        asking.start()
        stream = connect(server.address.replace("http", "ws") + "/v1/stream", proxy=None)
        with stream as opened:
            opened.send(json.dumps({"rate": 16_000}))
            assert json.loads(opened.recv(10))["type"] == "ready"
            assert begun.wait(10)
            ending = threading.Thread(target=server.__exit__, args=(None, None, None))
            ending.start()
            with pytest.raises(ConnectionClosed) as closed:
                opened.recv(10)
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "the server ends")
        ending.join(30)
        asking.join(30)
    assert answers[0].status_code == 200
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{server.address}/health", timeout=5)


def test_a_signal_while_it_waits_closes_nothing_under_the_server(
    settings: Callable[..., ServerSettings], make_wav: Any
) -> None:
    """Python 3.11 takes a thread for dead whose join a signal has interrupted."""
    content, answers, begun = make_wav().read_bytes(), [], threading.Event()
    server = EmotionServer(settings())
    keep = server.service.scores._run_items
    server.service.scores._run_items = lambda by, items: (begun.set(), time.sleep(1), keep(by, items))[2]
    asking = threading.Thread(
        target=lambda: answers.append(requests.post(f"{server.address}/v1/score", files={"f": content}, timeout=30))
    )
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt), server:
            asking.start()
            assert begun.wait(10)
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            server.wait()
        assert answers, "the server has ended before it has answered"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        asking.join(30)
    assert answers[0].status_code == 200


def test_a_server_that_stops_by_itself_is_told(settings: Callable[..., ServerSettings]) -> None:
    with EmotionServer(settings()) as server:
        server._server.should_exit = True
        with pytest.raises(EmonetError, match="stopped by itself"):
            server.wait()


def test_the_address_of_every_address(settings: Callable[..., ServerSettings], tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("a-token-of-thirty-two-characters")
    with EmotionServer(settings(host="0.0.0.0", token_file=tmp_path / "tokens")) as server:
        assert server.address.startswith("http://127.0.0.1:")
        assert requests.get(f"{server.address}/health", timeout=20).status_code == 200
        for host, status in (("192.0.2.7:5001", 200), ("evil.example.com", 421)):
            assert requests.get(f"{server.address}/health", headers={"Host": host}, timeout=20).status_code == status
