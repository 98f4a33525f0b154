from __future__ import annotations

import os
import signal
import socketserver
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from emonet.errors import RequestError
from emonet.runtime import cluster, connected, is_shared, require_versions, versions


def connect(address: str | None) -> None:
    with connected(address):
        raise AssertionError("there is no such cluster")


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"(?s)Ray is not installed.*pip install 'emonet\[ray\]'"):
        connect("auto")


@pytest.mark.parametrize("address", ["nonsense", "host:", ":6379", "ray://host", "host:port"])
def test_what_is_no_address(address: str) -> None:
    pytest.importorskip("ray")
    with pytest.raises(RequestError, match=r"(?s)no address of a Ray cluster.*auto, HOST:PORT or ray://HOST:PORT"):
        connect(address)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999"])
def test_nobody_at_an_address(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    began = time.monotonic()
    with pytest.raises(RequestError, match=r"(?s)no Ray cluster answers.*firewall"):
        connect(address)
    assert time.monotonic() - began < 15
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert is_shared(None)
    with pytest.raises(RequestError, match="no Ray cluster answers"):
        connect(None)


def test_versions_that_differ_are_told_with_both() -> None:
    require_versions(versions())
    with pytest.raises(RequestError, match=r"(?s)other versions than the driver.*torch .*, and the driver 0\.1"):
        require_versions(versions() | {"torch": "0.1"})


class Silent(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(1024)


@pytest.fixture
def silent() -> Iterator[str]:
    """Somebody who takes connections and never says a word."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Silent) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.slow
def test_who_answers_but_is_no_ray(silent: str) -> None:
    pytest.importorskip("ray")
    began = time.monotonic()
    with pytest.raises(RequestError, match=r"(?s)no Ray cluster answers.*something answers, but not Ray"):
        connect(silent)
    assert time.monotonic() - began < 20


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:.*Popen.__del__:pytest.PytestUnraisableExceptionWarning")
def test_a_cluster_of_this_machine_is_quiet_and_one_of_another_version_is_refused(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ray = pytest.importorskip("ray")
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # where none is
    with connected(None, alone=True, cpus=1) as own:
        assert signal.getsignal(signal.SIGTERM) is before
        assert own.address is None
        (node,) = own.nodes
        assert own.name(node["NodeID"]) == node["NodeManagerHostname"]
        address = ray.get_runtime_context().gcs_address
        with connected("elsewhere:1") as same:  # the one that there is
            assert same.ray is own.ray
        assert ray.is_initialized()

        def fails() -> None:
            raise SystemExit("nobody shall read this")

        with pytest.raises(Exception, match=r"."):
            ray.get(ray.remote(fails).options(max_retries=0).remote())
        ray.shutdown()
        monkeypatch.setattr(ray, "__version__", "0.0.1")
        with pytest.raises(RequestError, match=r"(?s)other versions of Ray or Python.*0\.0\.1.*same environment"):
            connect(address)
    assert not ray.is_initialized()
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_after_a_cluster_of_this_machine_others_have_their_actors(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)

    class Actor:
        def answer(self) -> int:
            return 1

    def answers(address: str | None, **options: Any) -> int:
        with connected(address, **options) as there:
            return int(there.ray.get(there.ray.remote(Actor).remote().answer.remote(), timeout=120))

    head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20}
    other = Cluster(initialize_head=True, head_node_args=head)
    try:
        assert answers(None, alone=True, cpus=1) == 1  # asks for tokens
        assert "RAY_AUTH_MODE" not in os.environ
        assert answers(other.address) == 1  # and this one does not
    finally:
        other.shutdown()
