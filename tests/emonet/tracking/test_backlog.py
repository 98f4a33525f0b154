from __future__ import annotations

import logging
import os
from collections.abc import Callable

import pytest

from emonet.errors import EmonetError
from emonet.tracking import answering, backlog, reason
from emonet.tracking.answers import brief
from emonet.tracking.backlog import Backlog

URI = "http://127.0.0.1:9"


class Server:
    """Takes values while it is there.

    Args:
        away: calls that it will not answer.
    """

    def __init__(self, away: int = 0) -> None:
        self.away, self.taken = away, list[int]()

    def ask(self) -> None:
        if self.away:
            self.away -= 1
            raise ConnectionError("refused")

    def take(self, value: int) -> Callable[[], None]:
        def call() -> None:
            self.ask()
            self.taken.append(value)

        return call


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "PAUSE", 0.0)
    monkeypatch.setattr(backlog, "_ASK_EVERY", 0.0)


@pytest.mark.usefixtures("quick")
def test_what_a_server_does_not_take_is_logged_in_order_once_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(away=2)
    waiting = Backlog(URI, server.ask)
    with caplog.at_level(logging.WARNING):
        for value in range(4):
            waiting.offer(server.take(value), brief=value % 2 == 0)
        waiting.flush()
    assert server.taken == [0, 1, 2, 3]
    assert [record.message for record in caplog.records] == [
        "MLflow does not take what is logged (refused); work goes on, and it is kept",
        "MLflow answers again; what was kept is logged",
    ]


def test_a_server_that_is_away_is_not_asked_at_every_call() -> None:
    server = Server(away=100)
    waiting = Backlog(URI, server.ask)
    for value in range(50):
        waiting.offer(server.take(value))
    assert server.away == 98, "the first call, and whether it is the server or the call"


@pytest.mark.usefixtures("quick")
def test_what_was_never_taken_is_said_at_the_end() -> None:
    server = Server(away=10**9)
    waiting = Backlog(URI, server.ask)
    waiting.offer(server.take(1))
    message = r"(?s)MLflow has not taken 1 of the things to log.*found: +refused.*the same command goes on"
    with pytest.raises(EmonetError, match=message):
        waiting.flush(patience=0.01)


@pytest.mark.usefixtures("quick")
def test_a_server_is_asked_at_the_end_also_if_nothing_waits() -> None:
    with pytest.raises(EmonetError, match="MLflow has not taken 0"):
        Backlog(URI, Server(away=10**9).ask).flush(patience=0.0)


def test_a_call_that_no_server_would_take_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    def refused() -> None:
        raise FileNotFoundError("no such picture")

    server = Server()
    waiting = Backlog(URI, server.ask)
    with caplog.at_level(logging.WARNING):
        for brief_one in (True, False):
            waiting.offer(refused, brief=brief_one)
            waiting.offer(server.take(int(brief_one)))
        waiting.flush(patience=0.0)
    assert server.taken == [1, 0]
    assert [record.message for record in caplog.records] == ["not logged: no such picture"] * 2


@pytest.mark.usefixtures("quick")
def test_a_database_that_another_process_writes_is_waited_for() -> None:
    failures, taken = ["(OperationalError) database is locked"] * 4, list[int]()

    def call() -> None:
        if failures:
            raise RuntimeError(failures.pop())
        taken.append(1)

    waiting = Backlog(URI, lambda: None)
    waiting.offer(call)
    assert taken == []
    waiting.flush(patience=5.0)
    assert taken == [1]


def test_errors_of_libraries_tell_their_first_cause() -> None:
    def request() -> None:
        try:
            raise ConnectionRefusedError(111, "Connection refused")
        except ConnectionRefusedError as error:
            raise RuntimeError(f"API request failed with exception {error}")  # noqa: B904  # as mlflow does it

    with pytest.raises(EmonetError) as told, answering("postgresql://me:secret@host/db"):
        request()
    assert "found:    [Errno 111] Connection refused" in str(told.value)
    assert "secret" not in str(told.value)
    assert reason(KeyError()) == "KeyError"


def test_the_environment_says_how_long_a_server_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    with brief(URI):
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ
    with brief("sqlite:///x.db"):
        assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


def test_a_dead_proxy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://me:secret@10.1.1.1:3128")
    message = r"(?s)by way of the proxy 10\.1\.1\.1:3128.*NO_PROXY=mlflow\.here goes past"
    with pytest.raises(EmonetError, match=message), answering("http://mlflow.here:5000"):
        raise ConnectionError
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(EmonetError, match=r"try: +start the server"), answering("http://127.0.0.1:5000"):
        raise ConnectionError
