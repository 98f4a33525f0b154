"""The verb `ui`: MLflow's own pages on this machine only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from emonet.errors import EmonetError
from experiments import console

if TYPE_CHECKING:
    from experiments.cli import UiArguments


def run(arguments: UiArguments) -> dict[str, str]:
    """Serve until Ctrl-C.

    Raises:
        EmonetError: if the server stops by itself, for instance because the port is taken.
    """
    from emonet.tracking import default_uri

    uri = default_uri(arguments.runs)
    address = f"http://127.0.0.1:{arguments.port}"
    console.say(f"MLflow on {address} ({uri}); Ctrl-C stops it")
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(arguments.port),
        "--backend-store-uri", uri, "--default-artifact-root", str((arguments.runs / "mlartifacts").resolve()),
    ]  # fmt: skip
    # A session of its own: the server's workers must end with it, also where only this process is interrupted.
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # background jobs are not used here
    with subprocess.Popen(command, env=environment, start_new_session=True) as server:
        try:
            code = server.wait()
        except KeyboardInterrupt:
            return {"address": address, "tracking": uri}
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
    raise EmonetError(
        f"MLflow's server stopped with exit code {code}",
        where=address,
        hint="another port: emonet ui --port 5001",
    )
