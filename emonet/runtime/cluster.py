"""Ray clusters: connect to one, or start one of this machine alone; quiet, and refused in plain words.

Nothing else here imports Ray before it is asked for: it is an extra.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import platform
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emonet.errors import EmonetError, RequestError

if TYPE_CHECKING:
    from types import ModuleType

PATIENCE = 12.0  # seconds for an address to answer
CLIENT = "ray://"
_ADDRESS = "RAY_ADDRESS"  # Ray's own variable, which stands in for an address that is not given
_STORE = 80 * 2**20  # bytes of Ray's object store on a cluster of our own: what is sent is small
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a worker without a GPU keeps what CUDA_VISIBLE_DEVICES says
    "RAY_SCHEDULER_EVENTS": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
}
_ANSWERS = "import sys; from ray._raylet import GcsClient; print(flush=True); GcsClient(address=sys.argv[1])"
_OLDER = "Version mismatch"
# A cluster of this machine alone. It has a session of its own: signals that reach all processes of a terminal are for
# the driver, which ends when Ray's processes do. It ends with its standard input, also when the driver is killed.
_HEAD = """
import json, logging, sys, ray
options = json.loads(sys.argv[1])
found = ray.init("local", include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL, **options)
print(found.address_info["gcs_address"], flush=True)
sys.stdin.read()
ray.shutdown()
"""
_START_SECONDS = 120.0  # for Ray's processes, on a machine that is busy
_END_SECONDS = 15.0


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected to.

    Args:
        ray: the module.
        address: as it was asked for; None for a cluster of this machine alone, which ends with this process.
    """

    ray: Any
    address: str | None

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """What Ray tells of each node that is alive."""
        return [node for node in self.ray.nodes() if node["Alive"]]

    def name(self, node: str) -> str:
        """A node's host name, with the beginning of its id where several share that."""
        hosts = {one["NodeID"]: one["NodeManagerHostname"] for one in self.ray.nodes()}
        host = hosts.get(node, "node")
        return host if list(hosts.values()).count(host) == 1 else f"{host}/{node[:6]}"


def versions() -> dict[str, str]:
    """Of what must be the same on all nodes, or states would differ in their last bits, or messages be misread."""
    from importlib.metadata import version

    from emonet.version import __version__

    return {"emonet": __version__, "Python": platform.python_version(), "torch": version("torch")}


def require_versions(theirs: Mapping[str, str]) -> None:
    """That this node has the versions of whoever has sent it work.

    Raises:
        RequestError: if it has not.
    """
    here = versions()
    different = [
        f"{name} {here[name]}, and the driver {there}" for name, there in theirs.items() if here[name] != there
    ]
    if different:
        raise RequestError(
            "this node has other versions than the driver",
            where=platform.node(),
            found="; ".join(different),
            hint="the same environment on every node, as constraints.txt pins it",
        )


def is_shared(address: str | None) -> bool:
    """Whether this address, or RAY_ADDRESS in its stead, names a cluster that may have other machines."""
    return bool(address or os.environ.get(_ADDRESS))


def has_ray() -> bool:
    """Whether the extra is installed."""
    return importlib.util.find_spec("ray") is not None


@contextmanager
def connected(
    address: str | None, *, alone: bool = False, cpus: int | None = None, gpus: int | None = None
) -> Iterator[Cluster]:
    """A connection to a cluster, which ends with the block; one that this process has already is taken and kept.

    Args:
        address: auto (the cluster that this machine is a node of), HOST:PORT, or ray://HOST:PORT; None: what
            RAY_ADDRESS says, or else a cluster of this machine alone.
        alone: a cluster of this machine alone, whatever RAY_ADDRESS says.
        cpus: processors of a cluster of this machine alone (count); by default all.
        gpus: its GPUs (count); by default all.

    Raises:
        RequestError: if Ray is not installed, or the cluster does not answer, or has other versions of Python or Ray.
        EmonetError: if a cluster of this machine cannot be started.
    """
    if not has_ray():
        raise RequestError("Ray is not installed", hint="pip install 'emonet[ray]'")
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    logging.getLogger("ray").setLevel(logging.CRITICAL)

    if ray.is_initialized():
        yield Cluster(ray, address)
        return
    address = None if alone else address or os.environ.get(_ADDRESS) or None
    if address is not None:
        _require_answer(address)
    with _tokens_as_before(), nullcontext(address) if address is not None else _own(cpus, gpus) as there:
        _connect(ray, there)
        try:
            with _nothing_printed():
                yield Cluster(ray, address)
        finally:
            with _signals_kept():
                ray.shutdown()


@contextmanager
def _own(cpus: int | None, gpus: int | None) -> Iterator[str]:
    """A cluster of this machine alone: its address."""
    options = json.dumps({"object_store_memory": _STORE, "num_cpus": cpus, "num_gpus": gpus})
    with tempfile.TemporaryFile() as said:
        head = subprocess.Popen(
            [sys.executable, "-P", "-c", _HEAD, options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, start_new_session=True,
        )  # fmt: skip
        try:
            address = _line_of(head)
            if not address:
                said.seek(0)
                raise EmonetError(
                    "Ray could not be started on this machine",
                    found=said.read().decode(errors="replace").strip().rpartition("\n")[2] or "no answer",
                    hint="--engine local, in this process alone",
                )
            _take_token()
            yield address
        finally:
            with suppress(subprocess.TimeoutExpired, BrokenPipeError):
                head.communicate(timeout=_END_SECONDS)  # closes its standard input
            head.kill()  # Ray's processes end with it
            head.wait()


@contextmanager
def _nothing_printed() -> Iterator[None]:
    """Ray prints what its nodes report, such as workers that died, to stdout, which is for results."""
    from ray._private import worker

    before = worker._worker_logs_enabled
    worker._worker_logs_enabled = False
    try:
        yield
    finally:
        worker._worker_logs_enabled = before


@contextmanager
def _tokens_as_before() -> Iterator[None]:
    """Whether this process sends a token is after the block as it was before.

    Ray's switch is of the whole process: left on, a later cluster without tokens could not ask this process whether it
    still wants its actors, and would end each at once.
    """
    from ray._private.authentication.authentication_token_setup import AUTH_MODE_ENV_VAR

    raylet: Any = importlib.import_module("ray._raylet")
    before = os.environ.get(AUTH_MODE_ENV_VAR)
    try:
        yield
    finally:
        if before is None and os.environ.pop(AUTH_MODE_ENV_VAR, None) is not None:
            raylet.Config.initialize("")  # reads the environment again
            raylet.AuthenticationTokenLoader.instance().reset_cache()


def _take_token() -> None:
    """Send the token in ~/.ray, which clusters that Ray starts for one run ask for."""
    from ray._private.authentication import authentication_token_setup as setup

    setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def _line_of(process: subprocess.Popen[bytes]) -> str:
    """The first line that it prints; nothing if it ends before, or takes too long."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], _START_SECONDS)
    return process.stdout.readline().decode().strip() if ready else ""


def _connect(ray: ModuleType, address: str) -> None:
    try:
        with _signals_kept():
            ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL)
    except Exception as error:  # Ray raises RuntimeError, ValueError, ConnectionError and others
        with suppress(Exception):
            ray.shutdown()
        raise _explained(error, address) from error


def _explained(error: Exception, address: str) -> EmonetError:
    text = str(error)
    if _OLDER in text:
        return RequestError(
            "the cluster has other versions of Ray or Python",
            where=address,
            found=" ".join(text.split()),
            hint="the same environment on every node, as constraints.txt pins it",
        )
    if address.startswith(CLIENT) and "ray[client]" in text:
        what, hint = "an address ray:// needs Ray's client", "pip install 'ray[client]'; or, on a node, --address auto"
    elif address == "auto":
        what, hint = "no Ray cluster runs on this machine", "ray start --head; or leave out --address"
    elif "This node has an IP address" in text or "node_ip_address" in text or "find a node" in text:
        what = "this machine is no node of the cluster, and only nodes can drive it"
        hint = f"ray start --address={address} on this machine first; or --address ray://HOST:10001"
    else:
        what, hint = "the Ray cluster cannot be used", "ray status --address HOST:PORT"
    return RequestError(what, where=address, found=text.partition("\n")[0], hint=hint)


def _require_answer(address: str) -> None:
    """See that somebody answers, which Ray itself tries for two minutes.

    Raises:
        RequestError: if nobody does, or no Ray.
    """
    if address == "auto":
        return
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
    if not host or not port.isdigit():
        raise RequestError(
            "this is no address of a Ray cluster", expected="auto, HOST:PORT or ray://HOST:PORT", found=address
        )
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise _silent(address, error) from error
    if not address.startswith(CLIENT):
        _require_ray(address)


def _require_ray(address: str) -> None:
    """In a process of its own, since Ray's attempts cannot be interrupted."""
    with tempfile.TemporaryFile() as said:
        command = [sys.executable, "-P", "-c", _ANSWERS, address]
        asked = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said)
        try:
            _line_of(asked)  # it has imported Ray, which on a busy machine takes longer than any answer
            asked.wait(PATIENCE)  # an error of it is one that connecting tells better
            late = False
        except subprocess.TimeoutExpired:
            late = True
        finally:
            asked.kill()
            asked.communicate()
        said.seek(0)
        if b"AuthToken" in said.read():
            raise RequestError(
                "the cluster asks for a token",
                where=address,
                hint="RAY_AUTH_MODE=token in the environment, and the head's ~/.ray/auth_token here; on a node also "
                "--address auto",
            )
        if late:
            raise _silent(address, "something answers, but not Ray")


def _silent(address: str, reason: object) -> RequestError:
    return RequestError(
        "no Ray cluster answers at this address",
        where=address,
        found=reason,
        hint="is it running (ray status), and may this machine reach it (firewall)? GCS listens on port 6379, "
        "ray:// on 10001",
    )


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself; here it stays what it was."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
