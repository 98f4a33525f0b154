"""The verb `dashboard`: Optuna's own pages about an experiment's studies, on this machine only."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

from emonet.errors import RequestError
from emonet.tracking import hidden, sqlite_path
from experiments.core import SweepConfig, check_port, console, load, serve_until_interrupted, storage_of

if TYPE_CHECKING:
    from experiments.arguments import DashboardArguments

_OTHER_PORT = "another port: emonet dashboard --port 8081"


def run(arguments: DashboardArguments) -> dict[str, str]:
    """Serve until Ctrl-C.

    Raises:
        RequestError: if there is no study yet, its storage is a journal file, or the port is taken.
        EmonetError: if the server stops by itself.
    """
    storage = _storage(arguments)
    check_port(arguments.port, _OTHER_PORT)
    address = f"http://127.0.0.1:{arguments.port}"
    console.say(f"Optuna's pages on {address} ({console.name(hidden(storage))}); Ctrl-C stops it")
    settings = {"storage": storage, "host": "127.0.0.1", "port": arguments.port}
    with NamedTemporaryFile("w", prefix="emonet-", suffix=".toml", encoding="utf-8") as file:
        # Not as arguments: everybody on this machine may read these, and a URL may hold a password.
        file.write("\n".join(["[optuna_dashboard]", *(f"{key} = {json.dumps(one)}" for key, one in settings.items())]))
        file.flush()
        command = [str(Path(sysconfig.get_path("scripts")) / "optuna-dashboard"), "--quiet", "--from-config", file.name]
        serve_until_interrupted(command, address=address, name="Optuna's", hint=_OTHER_PORT)
    return {"address": address, "storage": hidden(storage)}


def _storage(arguments: DashboardArguments) -> str:
    experiment = load(arguments.experiment)
    config = experiment.sweep if arguments.storage is None else SweepConfig(storage=arguments.storage)
    storage = storage_of(config, arguments.runs)
    path = sqlite_path(storage)
    if path is not None and not path.is_file():
        raise RequestError("there is no study yet", where=path, hint="emonet sweep; --storage names another")
    return storage
