"""Servers in processes of their own, and the clients that load them, for `benchmarks.serve`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import ClassVar

import numpy as np

from benchmarks.surroundings import free_port
from emonet.errors import EmonetError
from emonet.registry import register_voice
from emonet.targets import EMOTIONS
from emonet.tracking import default_uri, start_run

START = 180.0  # seconds that a server has until it answers


@dataclass(frozen=True)
class Serving:
    """A server that answers.

    Args:
        name: whose it is.
        port: of this machine.
        path: that is asked.
        process: its id.
    """

    NAMES: ClassVar = ("emonet", "mlflow")
    name: str
    port: int
    path: str
    process: int

    @property
    def resident(self) -> int:
        """Memory that its process holds now (bytes), decoders not counted."""
        pages = int(Path(f"/proc/{self.process}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def processor(self) -> float:
        """Processor time that its session's processes have spent (seconds), ended ones among them."""
        spent = 0
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended meanwhile
                continue
            if int(fields[3]) == self.process:  # its session
                spent += sum(map(int, fields[11:15]))
        return spent / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Load:
    """What a number of clients got.

    Args:
        server: whose it is.
        clients: at once (count).
        requests: that were answered (count).
        seconds: that it took.
        p50: of the time of a request (seconds).
        p95: of the time of a request (seconds).
        processor: time that the server's processes have spent (seconds).
    """

    server: str
    clients: int
    requests: int
    seconds: float
    p50: float
    p95: float
    processor: float

    @property
    def cost(self) -> float:
        """Processor time per clip (seconds), which other programs of the machine hardly change."""
        return self.processor / self.requests

    @property
    def rate(self) -> float:
        """Clips per second."""
        return self.requests / self.seconds

    @property
    def line(self) -> str:
        """All of it, in words."""
        late = f"p50 {1000 * self.p50:.0f} ms, p95 {1000 * self.p95:.0f} ms, {1000 * self.cost:.0f} ms of a core a clip"
        return f"{self.server}, {self.clients} clients: {self.rate:.1f} clips/s, {late}"


def registered(voice: Path, runs: Path) -> Path:
    """Register a voice model, as MLflow's server wants it; returns the folder of the version."""
    from emonet.registry import resolve

    uri = default_uri(runs)
    runs.mkdir()
    with start_run(uri, experiment="bench", name="serve", artifacts=runs / "mlartifacts", config={}, tags={}) as run:
        register_voice(run, voice, EMOTIONS.ids, {})
    return Path(resolve("models:/emonet-voice@champion", uri, runs)).resolve()


@contextmanager
def our_server(model: Path, log: Path) -> Iterator[Serving]:
    """`emonet serve`, with the processes that it needs."""
    port = free_port()
    command = [sys.executable, "-m", "experiments.cli", "serve", "--model", str(model), "--port", str(port)]
    with _running(command, port, "/health", log) as process:
        yield Serving("emonet", port, "/v1/score", process)


@contextmanager
def mlflow_server(model: Path, log: Path) -> Iterator[Serving]:
    """`mlflow models serve`, in this environment."""
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "--model-uri", str(model),
        "--port", str(port), "--host", "127.0.0.1",
    ]  # fmt: skip
    with _running(command, port, "/ping", log) as process:
        yield Serving("mlflow", port, "/invocations", process)


def ask_for(
    server: Serving,
    body: bytes,
    *,
    clients: int,
    seconds: float | None = None,
    requests: int | None = None,
    kind: str = "application/json",
) -> Load:
    """Load a server for so many seconds, or with so many requests.

    Raises:
        EmonetError: if a request is not answered with scores.
    """
    crowd = _Crowd(server, body, kind, requests)
    threads = [threading.Thread(target=crowd.ask) for _ in range(clients)]
    began, spent = time.perf_counter(), server.processor
    for thread in threads:
        thread.start()
    if seconds is not None:
        time.sleep(seconds)
        crowd.ended.set()
    for thread in threads:
        thread.join()
    taken = time.perf_counter() - began
    if crowd.failures or not crowd.times:
        raise EmonetError("a request was not answered", where=server.name, found=(crowd.failures or ["nothing"])[0])
    p50, p95 = np.percentile(crowd.times, [50, 95])
    return Load(server.name, clients, len(crowd.times), taken, float(p50), float(p95), server.processor - spent)


@dataclass
class _Crowd:
    """Clients that ask again as soon as they are answered."""

    server: Serving
    body: bytes
    kind: str
    left: int | None
    times: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self) -> None:
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=120)
        headers = {"Content-Type": self.kind}
        try:
            while self._goes_on():
                began = time.perf_counter()
                connection.request("POST", self.server.path, self.body, headers)
                answer = connection.getresponse()
                content = answer.read()
                self.times.append(time.perf_counter() - began)
                if answer.status != 200 or b'"error":null' not in content.replace(b" ", b""):
                    self.failures.append(f"{answer.status}: {content[:300]!r}")
                    self.ended.set()
        except OSError as error:
            self.failures.append(str(error))
            self.ended.set()
        finally:
            connection.close()

    def _goes_on(self) -> bool:
        with self.lock:
            if self.ended.is_set() or self.left == 0:
                return False
            if self.left is not None:
                self.left -= 1
            return True


@contextmanager
def _running(command: Sequence[str], port: int, path: str, log: Path) -> Iterator[int]:
    """A server's process within the block, and all that it starts; yields the id of the one that listens."""
    programs = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": os.pathsep.join([programs, os.environ.get("PATH", os.defpath)])}
    with log.open("w") as file:
        server = subprocess.Popen(command, stdout=file, stderr=file, env=environment, start_new_session=True)
        try:
            _await(server, port, path, log)
            yield server.pid
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def _await(server: subprocess.Popen[bytes], port: int, path: str, log: Path) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline and server.poll() is None:
        connection = HTTPConnection("127.0.0.1", port, timeout=START)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.3)
        finally:
            connection.close()
    raise EmonetError("a server does not come up", where=" ".join(server.args), found=log.read_text()[-2000:])  # type: ignore[arg-type]
