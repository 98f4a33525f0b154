"""A real S3 server on this machine (moto's), of this process, and an empty bucket of it for each test."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.request import Request, urlopen

import pytest

_NUMBERS = itertools.count()
FORBIDDEN = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


@dataclass
class S3:
    """A running server.

    Args:
        requests: method, path and range of each request since the last `clear`.
        refuses: whether a request (method and path) is answered with 403, as to credentials that may not do this.
    """

    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    refuses: Callable[[str, str], bool] = lambda method, path: False
    _server: Any = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "EMONET_OBJECTS_PATIENCE": "0.5",
        }

    def start(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Silent(WSGIRequestHandler):
            def log(self, *args: Any) -> None:
                pass

        moto = DomainDispatcherApplication(create_backend_app)

        def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            asked = environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("HTTP_RANGE")
            self.requests.append(asked)
            if self.refuses(*asked[:2]):
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                start_response("403 Forbidden", [("Content-Type", "application/xml")])
                return [FORBIDDEN]
            return moto(environ, start_response)  # type: ignore[no-any-return]

        self._server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Silent)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def bucket(self) -> str:
        """Make an empty bucket; its URL."""
        name = f"bucket-{next(_NUMBERS)}"
        urlopen(Request(f"{self.endpoint}/{name}", method="PUT"), timeout=30).close()
        return f"s3://{name}"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    server = S3()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """The server that all share, with the environment that leads to it; it refuses nothing afterwards."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    s3_server.requests.clear()
    yield s3_server
    s3_server.refuses = lambda method, path: False


@pytest.fixture
def bucket(s3: S3) -> str:
    """URL of an empty bucket."""
    return s3.bucket()


@pytest.fixture
def fresh_decoders(s3: S3) -> Iterator[None]:
    """Processes that decode for everyone, started after the environment that leads to the server was set."""
    from emonet.audio import decoders

    decoders._shared.cache_clear()
    yield
    decoders.shared_decoders().close()
    decoders._shared.cache_clear()
