"""A server that we start does not outlive us, however we end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

SERVER = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
PARENT = """
import sys
from emonet.runtime.signals import heeded
from experiments.core.local_server import serve_until_interrupted
with heeded():
    serve_until_interrupted([sys.executable, "-c", sys.argv[1]], address="here", name="a", hint="none")
"""


@pytest.fixture
def serving() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that serves, and the id of its server."""

    def as_in_a_terminal() -> None:
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    command = [sys.executable, "-c", PARENT, SERVER]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=as_in_a_terminal) as parent:
        assert parent.stderr is not None
        server = int(parent.stderr.readline())  # a server's lines go where messages go
        try:
            yield parent, server
        finally:
            parent.kill()
            with suppress(ProcessLookupError):
                os.kill(server, signal.SIGKILL)


def gone(process: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(process, 0)
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
            if state == "Z":  # ended; whoever inherited it has not asked yet
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_server_ends_with_the_command(serving: tuple[subprocess.Popen[str], int], how: signal.Signals) -> None:
    parent, server = serving
    parent.send_signal(how)
    assert parent.wait(20) == 0
    assert gone(server)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent was killed")
def test_a_server_ends_when_the_command_is_killed(serving: tuple[subprocess.Popen[str], int]) -> None:
    parent, server = serving
    parent.kill()
    parent.wait(20)
    assert gone(server)
