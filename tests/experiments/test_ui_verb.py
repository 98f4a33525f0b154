"""MLflow's pages come up on this machine only, and Ctrl-C stops them."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from experiments.cli import main
from tests.experiments.conftest import COMMAND
from tests.ports import free_port


def test_a_port_that_is_taken(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["ui", "--port", str(port), "--runs", str(runs)]) == 2
    said = capsys.readouterr().err
    assert f"port {port} cannot be used" in said
    assert f"emonet ui --port {port + 1}" in said
    assert "MLflow on" not in said  # nothing was started


@pytest.mark.slow
def test_pages_answer_until_interrupted(runs: Path, somebodys_project: Path) -> None:
    port = free_port()
    command = [COMMAND, "ui", "--port", str(port), "--runs", str(runs)]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
        cwd=somebodys_project,
    ) as server:
        try:
            assert answer(port, server, seconds=120) == 200
            server.send_signal(signal.SIGINT)
            _, err = server.communicate(timeout=60)
        finally:
            server.kill()
    assert server.returncode == 0, err
    assert f"http://127.0.0.1:{port}" in err


def heed_interrupts() -> None:
    """A shell starts what it runs in the background with SIGINT ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def answer(port: int, server: subprocess.Popen[str], *, seconds: float) -> int:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as response:
                return int(response.status)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    return 0
