"""Ports of this machine that nobody else is given while the tests run."""

from __future__ import annotations

import socket

_HELD: list[socket.socket] = []


def free_port() -> int:
    """A port for a server that a test starts.

    It stays bound, without a listener, until this process ends: whoever asks the system for any free port gets another
    one, and a server that asks for this one by its number gets it, since both allow reuse (Linux).
    """
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # only now: the system gives a port to one alone
    _HELD.append(holder)
    return int(holder.getsockname()[1])
