"""Servers that tests start by the verb `serve`."""

from __future__ import annotations

from subprocess import Popen


def wait_until_ready(server: Popen[str]) -> None:
    """Read what a server says until it shows how it is asked; fails with all of it if it ends before."""
    assert server.stderr is not None
    said = []
    for line in server.stderr:
        said.append(line)
        if "curl" in line:
            break
    assert said, "it said nothing"
    assert "curl" in said[-1], "".join(said)
