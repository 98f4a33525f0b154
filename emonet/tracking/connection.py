"""MLflow: its client, pointed at a server or a database; the only module that imports mlflow."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing leaves the machine unasked
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelInput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException as ServerError
from mlflow.models import ModelSignature
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository
from mlflow.store.artifact.utils.models import get_model_name_and_version
from mlflow.types import ColSpec, Schema
from mlflow.utils import credentials, rest_utils

from emonet.runtime import Uncut, shielded
from emonet.tracking.answers import brief, is_server
from emonet.tracking.database import connect_once, copy_of, is_writable, sqlite_path, sqlite_url
from emonet.tracking.relocation import local_path, settle

# mlflow imports polars where it is installed, whose handler of Ctrl-C lets system calls go on: who waits would wait on.
signal.siginterrupt(signal.SIGINT, True)

__all__ = [
    "URI_VARIABLE", "LoggedModelInput", "Metric", "Param", "RunTag", "Server", "ServerError", "active", "client",
    "default_uri", "lists_artifact", "location_of", "log_pyfunc", "pointed_at", "reachable", "repository",
]  # fmt: skip


class Server(Uncut, MlflowClient):
    """MLflow's client; a signal waits for the end of a call."""


URI_VARIABLE = "MLFLOW_TRACKING_URI"
_ANSWERED: set[str] = set()  # servers that have answered this process

for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.ERROR)  # migrations and hints; warnings of ours go elsewhere


def default_uri(runs: Path) -> str:
    """`MLFLOW_TRACKING_URI`, or the SQLite database `mlflow.db` below `runs`.

    Raises:
        RequestError: if SQLite cannot name that folder.
    """
    return os.environ.get(URI_VARIABLE) or sqlite_url(runs.resolve() / "mlflow.db")


def location_of(source: str, uri: str) -> str:
    """Where the files of what `models:/...` or `runs:/...` names lie: a local path or URI, or one on a server.

    Raises:
        ServerError: if there is no such model or run; errors of what MLflow uses pass as well.
    """
    server = client(uri)
    if source.startswith("runs:/"):
        run_id, _, path = source.removeprefix("runs:/").partition("/")
        return _of_run(server, run_id, path)
    model, path = ModelsArtifactRepository.split_models_uri(source)  # type: ignore[no-untyped-call]
    # Name and version, or the id of a logged model.
    found = get_model_name_and_version(server, model)  # type: ignore[no-untyped-call]
    place = f"models:/{found[0]}" if len(found) == 1 else str(server.get_model_version_download_uri(*found))
    if place.startswith("models:/"):
        place = str(server.get_logged_model(place.removeprefix("models:/")).artifact_location)
    return _below(place, path)


def _of_run(server: Server, run_id: str, path: str) -> str:
    """A run's own artefact, or the model of that name that it has logged."""
    run = server.get_run(run_id)
    own = _below(str(run.info.artifact_uri), path)
    name, _, rest = path.partition("/")
    there = local_path(own)
    if name and not (there is not None and there.exists()):
        for output in reversed(run.outputs.model_outputs if run.outputs else []):
            model = server.get_logged_model(output.model_id)
            if model.name == name:
                return _below(str(model.artifact_location), rest)
    return own


def _below(location: str, path: str) -> str:
    if not path:
        return location
    there = local_path(location)
    return f"{location.rstrip('/')}/{path}" if there is None else (there / path).as_uri()


def repository(location: str, uri: str) -> Any:
    """MLflow's access to artefacts on a server or in a store of objects."""
    with pointed_at(uri):
        return get_artifact_repository(location)


def client(uri: str) -> Server:
    """A client whose registry is the tracking server's own, whatever else this process has used."""
    there = reachable(uri)
    return Server(tracking_uri=there, registry_uri=there)


def reachable(uri: str) -> str:
    """The URI for MLflow: a database is told where it lies now, and read from a copy where it may not be written."""
    path = sqlite_path(uri)
    if path is None:
        _ask_once(uri)
        return uri
    if not path.is_file() or is_writable(path):
        settle(path)
        return sqlite_url(path)
    copy = copy_of(path)
    settle(copy, path.parent)
    return sqlite_url(copy)


def _ask_once(uri: str) -> None:
    """Find out in seconds that a server is away, where mlflow alone takes minutes; errors of libraries pass."""
    if uri in _ANSWERED:
        return
    if not is_server(uri):
        connect_once(uri)
    with brief(uri):
        Server(tracking_uri=uri, registry_uri=uri).search_experiments(max_results=1)
    _ANSWERED.add(uri)


@contextmanager
def pointed_at(uri: str) -> Iterator[None]:
    """Make `uri` mlflow's current server and registry, and leave no trace: its setters write the environment, too."""
    names = (URI_VARIABLE, "MLFLOW_REGISTRY_URI")
    before = {name: os.environ.get(name) for name in names}
    there = reachable(uri)
    mlflow.set_tracking_uri(there)
    mlflow.set_registry_uri(there)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before[names[0]])  # type: ignore[arg-type]  # None unsets it
        mlflow.set_registry_uri(before[names[1]])  # type: ignore[arg-type]
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def lists_artifact(uri: str, run_id: str, name: str) -> bool:
    """Whether the server itself sees an artefact of a run."""
    route, asked = "/api/2.0/mlflow/artifacts/list", {"run_id": run_id}
    host = credentials.get_default_host_creds(uri)  # type: ignore[no-untyped-call]
    answer = rest_utils.http_request(host, route, "GET", params=asked)  # type: ignore[no-untyped-call]
    return name in {entry.get("path") for entry in answer.json().get("files", [])}


@contextmanager
def active(run_id: str) -> Iterator[None]:
    """Make a run the one that MLflow logs models to."""
    with ExitStack() as begun:
        with shielded():
            mlflow.start_run(run_id, nested=True)
            begun.callback(_deactivate)
        yield


def _deactivate() -> None:
    with shielded(), suppress(Exception), brief(mlflow.get_tracking_uri()):
        mlflow.end_run("RUNNING")  # how it ended is written by whoever has started it


def log_pyfunc(
    name: str,
    folder: Path,
    *,
    loader: str,
    code: Path,
    requirements: Sequence[str],
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    settings: Mapping[str, Any],
) -> tuple[str, str]:
    """Log a folder as a model of the active run; for arguments and result see `emonet.tracking.Run.pyfunc`."""
    taken, given = (Schema([ColSpec(t, c) for c, t in side.items()]) for side in (inputs, outputs))
    with warnings.catch_warnings(), shielded():
        # The signature is given; an example would need an audio file that a later reader has as well.
        warnings.filterwarnings("ignore", message=".*input example was not provided", category=UserWarning)
        info = mlflow.pyfunc.log_model(
            name=name,
            loader_module=loader,
            data_path=str(folder),
            code_paths=[str(code)],
            pip_requirements=list(requirements),
            signature=ModelSignature(inputs=taken, outputs=given),
            model_config=dict(settings),
            step=0,
        )
    return info.artifact_path, info.model_id
