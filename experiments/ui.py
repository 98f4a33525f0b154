"""The verb `ui`: MLflow's own pages on this machine only."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from experiments import console
from experiments.local_server import check_port, serve_until_interrupted

if TYPE_CHECKING:
    from experiments.arguments import UiArguments


def run(arguments: UiArguments) -> dict[str, str]:
    """Serve until Ctrl-C.

    Raises:
        RequestError: if the port is taken.
        EmonetError: if the server stops by itself.
    """
    from emonet.tracking import default_uri

    other_port = f"another port: emonet ui --port {arguments.port + 1}"
    check_port(arguments.port, other_port)
    uri = default_uri(arguments.runs)
    address = f"http://127.0.0.1:{arguments.port}"
    console.say(f"MLflow on {address} ({uri}); Ctrl-C stops it")
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(arguments.port),
        "--backend-store-uri", uri, "--default-artifact-root", str((arguments.runs / "mlartifacts").resolve()),
    ]  # fmt: skip
    serve_until_interrupted(
        command,
        address=address,
        environment={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # background jobs are not used here
        name="MLflow's",
        hint=other_port,
    )
    return {"address": address, "tracking": uri}
