"""The verb `ui`: MLflow's own pages on this machine only."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from emonet.tracking import ARTIFACTS, hidden, sqlite_path
from experiments.core import check_port, console, serve_until_interrupted

if TYPE_CHECKING:
    from experiments.arguments import UiArguments


def run(arguments: UiArguments) -> dict[str, str]:
    """Serve until Ctrl-C.

    Raises:
        RequestError: if the port is taken.
        EmonetError: if the server stops by itself.
    """
    from emonet.tracking import default_uri, reachable

    other_port = f"another port: emonet ui --port {arguments.port + 1}"
    check_port(arguments.port, other_port)
    uri = default_uri(arguments.runs)
    address = f"http://127.0.0.1:{arguments.port}"
    there = reachable(uri)
    console.say(f"MLflow on {address} ({console.name(hidden(uri))}); Ctrl-C stops it")
    if sqlite_path(there) != sqlite_path(uri):
        console.say("  [yellow]read only[/]: a copy as it is now; what is changed on these pages is not kept")
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(arguments.port),
        "--backend-store-uri", there, "--default-artifact-root", (arguments.runs.resolve() / ARTIFACTS).as_uri(),
    ]  # fmt: skip
    serve_until_interrupted(
        command,
        address=address,
        environment={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # background jobs are not used here
        name="MLflow's",
        hint=other_port,
    )
    return {"address": address, "tracking": hidden(uri)}
