"""What benchmarks take from this machine: Whisper base, if a checkout has it, and free ports."""

from __future__ import annotations

import socket
from pathlib import Path

_BASE = (Path("data/whisper-base"), Path("../shared/models/whisper-base"), Path("../../shared/models/whisper-base"))


def whisper_base() -> Path | None:
    """The folder of Whisper base, where a checkout may have it; None if it is not there."""
    return next((folder for folder in _BASE if (folder / "config.json").is_file()), None)


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
