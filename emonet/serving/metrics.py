"""Metrics of the HTTP server, as Prometheus reads them; in a registry of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.types import Scope

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


@final
class Metrics:
    """What is counted.

    Args:
        paths: of the server; all others are counted as one, since anybody can make them up.
        root_path: that stands before every path.
    """

    def __init__(self, paths: frozenset[str], root_path: str) -> None:
        self._paths, self._root = paths, root_path
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "emonet_requests", "Requests that were answered", ("path", "status"), registry=registry
        )
        self._seconds = Histogram(
            "emonet_request_seconds", "From the request to the end of its answer", ("path",), buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self.recordings = Counter(
            "emonet_recordings", "Recordings, by what became of them", ("outcome",), registry=registry
        )
        self.batches = Histogram(
            "emonet_batch_recordings", "Recordings per pass through the encoder", buckets=_SIZES, registry=registry
        )
        self.hops = Counter("emonet_stream_hops", "Scores of live streams, by outcome", ("outcome",), registry=registry)
        self._model = Info("emonet_model", "The model that serves", registry=registry)

    def gauge(self, name: str, about: str, read: Any) -> None:
        """A number that is read when it is asked for."""
        Gauge(f"emonet_{name}", about, registry=self.registry).set_function(read)

    def observe(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request; status 499 is a client that went away, 0 a connection that ended without an answer."""
        path = scope["path"].removeprefix(self._root)
        path = path if path in self._paths else "other"
        self._requests.labels(path, str(status)).inc()
        if scope["type"] == "http":
            self._seconds.labels(path).observe(seconds)

    def text(self, model: Mapping[str, str]) -> bytes:
        """All of it, in Prometheus' format."""
        self._model.info(dict(model))
        return generate_latest(self.registry)
