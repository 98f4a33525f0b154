"""Local servers of other programs: started as a process group, ended with all their workers."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import MappingProxyType

from emonet.errors import EmonetError, RequestError
from emonet.runtime import shielded

GRACE = 10.0  # seconds that a server has to end by itself once it was told to
OWN_MODULES_ONLY = {
    "PYTHONSAFEPATH": "1",
    # uvicorn puts a folder before all others: the working folder, unless it is told one, which may be one of them.
    "UVICORN_APP_DIR": sysconfig.get_path("stdlib"),
}
"""Variables by which no server takes modules from the folder that the user works in."""
_PR_SET_PDEATHSIG = 1  # of prctl(2)
_STDERR = 2  # stdout carries results only; a server's own lines go where messages go


def check_port(port: int, hint: str) -> None:
    """Check that nobody listens on a port of this machine, before anything is started.

    Raises:
        RequestError: if somebody does, or the port is not for everybody.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: one that just ended is gone
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise RequestError(
                f"port {port} cannot be used", where="127.0.0.1", found=error.strerror or str(error), hint=hint
            ) from error


def serve_until_interrupted(
    command: Sequence[str],
    *,
    address: str,
    environment: Mapping[str, str] = MappingProxyType({}),
    name: str,
    hint: str,
) -> None:
    """Run a server until Ctrl-C or another heeded signal; then end it and every process it started.

    Args:
        command: with its arguments; a list, no shell.
        address: where it listens, for the message.
        environment: variables beside those of this process.
        name: whose server it is, as in `MLflow's server`.
        hint: what to type if it stops by itself.

    Raises:
        EmonetError: if the server stops by itself, for instance because the port is taken.
    """
    try:
        with _started(command, environment) as server:
            code = server.wait()
    except KeyboardInterrupt:
        return
    raise EmonetError(f"{name} server stopped with exit code {code}", where=address, hint=hint)


@contextmanager
def _started(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A server within the block.

    It has a session of its own: its workers must end with it, also where only this process is interrupted.
    """
    with ExitStack() as ending:
        with shielded():
            server = subprocess.Popen(
                list(command),
                env={**os.environ, **OWN_MODULES_ONLY, **environment},
                start_new_session=True,
                stdout=_STDERR,
                preexec_fn=_ends_with_parent(),  # noqa: PLW1509  # no other thread runs here
            )
            ending.callback(_end, server)
        yield server


def _ends_with_parent() -> Callable[[], object] | None:
    """What a child calls to be told to end if this process is killed (SIGKILL); only Linux knows that."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(server: subprocess.Popen[bytes]) -> None:
    try:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            server.wait(GRACE)
    finally:  # workers that outlived their master, a server that does not listen to SIGTERM, somebody in a hurry
        with shielded(), suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
