"""Preflight: a tracking server or database is tried in seconds, before the work whose result it shall have."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from emonet.errors import EmonetError, RequestError
from emonet.tracking.answers import answering, brief, is_server, reason
from emonet.tracking.connection import Server, ServerError, client, lists_artifact
from emonet.tracking.database import hidden, is_writable, prepare, sqlite_path
from emonet.tracking.relocation import adopt, local_path, settle

CONFIG = "config.json"
"""The first artefact of a run."""
UNUSABLE = "the tracking server cannot be used"


def connect(uri: str, artifacts: Path, hint: str | None = None) -> Server:
    """A client whose database exists: created by one process, also when several start at once.

    Raises:
        RequestError: if the database or its folder cannot be written.
        EmonetError: if the server or database does not answer as one of MLflow's.
    """
    path, runs = sqlite_path(uri), artifacts.parent
    if not is_server(uri):
        require_writable(path or runs / "mlflow.db", hint)
    unset = None if is_server(uri) else "check MLFLOW_TRACKING_URI, or unset it to use runs/mlflow.db"
    with answering(uri, UNUSABLE, unset):
        runs.mkdir(parents=True, exist_ok=True)
        with FileLock(runs / ".mlflow.lock"), brief(uri):
            if path is not None:
                prepare(path)
            server = client(uri)
            server.search_experiments(max_results=1)
            if path is not None:
                settle(path)  # one that is new now says for which folder its locations hold
    return server


def require_writable(path: Path, hint: str | None = None) -> None:
    """Check that a database may be written, before work whose result it shall have.

    Raises:
        RequestError: if not.
    """
    if not is_writable(path):
        raise RequestError(
            "the tracking database and its folder can only be read",
            where=path,
            hint=hint or "--runs FOLDER names another folder; a copy of this one (cp -a) is as good, wherever it lies",
        )


def experiment_of(server: Server, uri: str, name: str, artifacts: Path) -> str:
    """The id of an experiment, created when missing; errors of MLflow and of what it uses pass.

    Raises:
        RequestError: if it was deleted.
    """
    found = server.get_experiment_by_name(name)
    place = artifacts.parent.resolve() / artifacts.name
    if found is None:
        try:
            # Of a server it says itself where artefacts go; with a database, this process writes them.
            return str(server.create_experiment(name, None if is_server(uri) else place.as_uri()))
        except ServerError:  # another process created it in between
            found = server.get_experiment_by_name(name)
            if found is None:
                raise
    _not_deleted(found, uri)
    own = sqlite_path(uri)
    if own is not None and own.parent.resolve() == place.parent:  # embedded: written to beside its database only
        adopt(own, found.experiment_id, place)
    return str(found.experiment_id)


def _not_deleted(experiment: Any, uri: str) -> None:
    if experiment is None or experiment.lifecycle_stage == "active":
        return
    restore = f"mlflow experiments restore -x {experiment.experiment_id}"
    raise RequestError(
        f"the experiment {experiment.name!r} was deleted in MLflow, where it can still be restored",
        where=hidden(uri),
        hint=f"MLFLOW_TRACKING_URI={shlex.quote(hidden(uri))} {restore}; or another --name, where the verb takes one",
    )


def require_experiment(uri: str, name: str, artifacts: Path, hint: str | None = None) -> None:
    """Check before long work that its run can be started: the server answers, and the experiment was not deleted.

    Args:
        uri: of the tracking server or database.
        name: of the experiment.
        artifacts: as in `start_run`.
        hint: what to do where a database can only be read.

    Raises:
        RequestError: if it was deleted, or the database cannot be written.
        EmonetError: if the tracking server or database cannot be used.
    """
    server = connect(uri, artifacts, hint)
    with answering(uri, UNUSABLE):
        _not_deleted(server.get_experiment_by_name(name), uri)


@contextmanager
def artifacts_kept(uri: str, run: Any) -> Iterator[None]:
    """Check within the block, which logs a first artefact, that artefacts can be written and are seen by the server.

    Raises:
        RequestError: if they cannot be written, or the server keeps them elsewhere than this machine writes them.
    """
    place = local_path(run.artifact_uri)
    there = set() if place is None else {folder for folder in (place, *place.parents) if folder.exists()}
    remote = is_server(uri)
    hint = (
        "start it with mlflow server --serve-artifacts --artifacts-destination PLACE, or let this machine write there"
        if remote
        else None
    )
    try:
        with answering(uri, "artefacts cannot be written"), brief(uri):
            yield
            seen = not remote or place is None or lists_artifact(uri, run.run_id, CONFIG)
    except EmonetError as error:
        raise RequestError(
            "the server's artefacts cannot be written from this machine" if remote else "artefacts cannot be written",
            where=place or run.artifact_uri,
            found=reason(error.__cause__ or error),
            hint=hint or "--runs FOLDER names another place",
        ) from error
    if not seen:
        _take_back(place, there)
        raise RequestError(
            "the server keeps artefacts at a path of its own machine, where this one cannot put them",
            where=hidden(uri),
            found=run.artifact_uri,
            hint=hint,
        )


def _take_back(place: Path | None, there: Collection[Path]) -> None:
    """Remove a run's first artefact from where nobody would look for it, with the folders that were not `there`."""
    if place is not None:
        (place / CONFIG).unlink(missing_ok=True)
        with suppress(OSError):  # the first that holds something else
            for folder in (place, *place.parents):
                if folder not in there:
                    folder.rmdir()
