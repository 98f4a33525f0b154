"""Runs: what is logged, and where."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from emonet import durable
from emonet.answers import answering, brief, is_server, reason
from emonet.backlog import Backlog
from emonet.connection import (
    LoggedModelInput,
    Metric,
    Param,
    RunTag,
    Server,
    ServerError,
    active,
    client,
    default_uri,
    lists_artifact,
    log_pyfunc,
    pointed_at,
    reachable,
)
from emonet.database import hidden, is_writable, prepare, sqlite_path
from emonet.errors import EmonetError, RequestError
from emonet.lineage import Code
from emonet.relocation import adopt, local_path, settle

__all__ = ["PARENT", "Run", "default_uri", "exists", "flat", "require_experiment", "start_run", "taken_up"]

PARENT = "mlflow.parentRunId"  # the tag by which MLflow nests runs
_BATCH = 1000  # metrics that a server takes at once
_CONFIG = "config.json"
_MISSING = "RESOURCE_DOES_NOT_EXIST"
_UNUSABLE = "the tracking server cannot be used"


@dataclass(frozen=True)
class Run:
    """An MLflow run in progress.

    Args:
        id: its MLflow id.
        client: talks to the tracking server.
        uri: of the tracking server.
        backlog: keeps what a server does not take while it is away; without one its refusals raise.
    """

    id: str
    client: Server
    uri: str
    backlog: Backlog | None = None

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log metrics at a step; keys may hold letters, digits and `_-./ `."""
        now = _milliseconds()
        points = [Metric(key, float(value), now, step) for key, value in values.items()]
        self._log(lambda: self.client.log_batch(self.id, metrics=points))

    def model_metrics(self, model_id: str, values: Mapping[str, float], dataset: tuple[str, str]) -> None:
        """Log metrics to a logged model, by way of this run.

        Args:
            model_id: MLflow's id of the model.
            values: by key.
            dataset: name and digest of the data behind them.
        """
        now, (name, digest) = _milliseconds(), dataset
        self._points(
            Metric(
                key, float(value), now, 0, model_id=model_id, dataset_name=name, dataset_digest=digest, run_id=self.id
            )
            for key, value in values.items()
        )

    def used(self, model_ids: Sequence[str]) -> None:
        """Name logged models as inputs of this run."""
        inputs = [LoggedModelInput(one) for one in model_ids]
        self._log(lambda: self.client.log_inputs(self.id, models=inputs))

    def curves(self, values: Mapping[str, Sequence[float]]) -> None:
        """Log whole curves at once, the steps counted from 0: one transaction, however many processes log."""
        now = _milliseconds()
        self._points(
            Metric(key, float(value), now, step) for key, curve in values.items() for step, value in enumerate(curve)
        )

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Log a file or a folder."""
        log = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        self._log(lambda: (self._settle(), log(self.id, str(path), folder)), brief=False)

    def text(self, text: str, name: str) -> None:
        """Log a text as the artefact `name`."""
        self._log(lambda: self.client.log_text(self.id, text, name))

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        tags = [RunTag(key, value) for key, value in values.items()]
        self._log(lambda: self.client.log_batch(self.id, tags=tags))

    def flush(self) -> None:
        """Log what the server has not taken yet; waits for it for a while.

        Raises:
            EmonetError: if it is still away.
        """
        if self.backlog is not None:
            self.backlog.flush()

    def _points(self, points: Iterator[Any]) -> None:
        every = list(points)
        for start in range(0, len(every), _BATCH):
            part = every[start : start + _BATCH]
            self._log(lambda part=part: self.client.log_batch(self.id, metrics=part))  # type: ignore[misc]

    def _log(self, call: Callable[[], object], *, brief: bool = True) -> None:
        if self.backlog is not None:
            self.backlog.offer(call, brief=brief)
            return
        with answering(self.uri):
            call()

    def _settle(self) -> None:
        """Another machine may see the same folder under another name, and have opened it meanwhile."""
        reachable(self.uri)

    def pyfunc(
        self,
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
        """Log a folder as a model that `mlflow.pyfunc.load_model` opens and `mlflow models serve` serves.

        Args:
            name: of the model within the run.
            folder: its data.
            loader: module whose `_load_pyfunc` loads the data.
            code: folder of the package that travels with it.
            requirements: as pip reads them.
            inputs: column -> MLflow type, e.g. `string`.
            outputs: column -> MLflow type, e.g. `double`.
            settings: what a reader may change: `load_model(model_config=...)`.

        Returns:
            Where it was logged, and MLflow's id of it.

        Raises:
            EmonetError: if the server does not take it.
        """
        self.flush()
        with answering(self.uri):
            self._settle()
            place, model_id = log_pyfunc(
                name,
                folder,
                loader=loader,
                code=code,
                requirements=requirements,
                inputs=inputs,
                outputs=outputs,
                settings=settings,
            )
            _open_up(place)
        return place, model_id


@contextmanager
def start_run(
    uri: str,
    *,
    experiment: str,
    name: str,
    artifacts: Path,
    config: Mapping[str, Any],
    tags: Mapping[str, str],
    parent: str | None = None,
) -> Iterator[Run]:
    """An MLflow run with its configuration, tags and the git revision; failed or killed where the block raises.

    That artefacts can be written is found out before the block begins. A server that goes away later does not end the
    block: what it does not take is logged once it is back.

    Args:
        uri: of the tracking server or database.
        experiment: MLflow experiment, created when missing.
        name: of the run.
        artifacts: folder for artefacts where the tracking store is a database; a server has a place of its own.
        config: JSON-able; logged as `config.json` and, flattened, as parameters.
        tags: further tags.
        parent: id of the run that MLflow's pages show it below.

    Raises:
        RequestError: if the experiment was deleted, or artefacts cannot be written.
        EmonetError: if the tracking server or database cannot be used.
    """
    server = _connect(uri, artifacts)
    nested = {} if parent is None else {PARENT: parent}
    with answering(uri, _UNUSABLE):
        experiment_id = _experiment_id(server, uri, experiment, artifacts)
        run = server.create_run(experiment_id, run_name=name, tags=nested).info
    with _in_progress(server, uri, run.run_id) as handle:
        with answering(uri, _UNUSABLE):
            server.log_batch(
                handle.id,
                params=[Param(key, value) for key, value in flat(config)],
                tags=[RunTag(key, value) for key, value in {**tags, **_revision()}.items()],
            )
        with _artifacts_kept(uri, run):
            server.log_dict(handle.id, dict(config), _CONFIG)
        yield handle


@contextmanager
def taken_up(uri: str, run_id: str, artifacts: Path) -> Iterator[Run]:
    """A run that was started before, taken up again; it ends as in `start_run`.

    Raises:
        EmonetError: if the tracking server or database cannot be used.
    """
    server = _connect(uri, artifacts)
    with answering(uri, _UNUSABLE):
        server.update_run(run_id, status="RUNNING")
    with _in_progress(server, uri, run_id) as handle:
        yield handle


@contextmanager
def _in_progress(server: Server, uri: str, run_id: str) -> Iterator[Run]:
    backlog = Backlog(uri, lambda: server.search_experiments(max_results=1))
    with _ending(server, uri, run_id), pointed_at(uri), active(run_id):
        yield Run(run_id, server, uri, backlog)
        backlog.flush()


@contextmanager
def _ending(server: Server, uri: str, run_id: str) -> Iterator[None]:
    """Write how a run ended."""
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        if status == "FINISHED":
            with answering(uri, _UNUSABLE):
                server.set_terminated(run_id, status)
        else:  # a server that is away as well must not hide why the run ended
            with suppress(Exception), brief(uri):
                server.set_terminated(run_id, status)


@contextmanager
def _artifacts_kept(uri: str, run: Any) -> Iterator[None]:
    """Check within the block, which logs a first artefact, that artefacts can be written and are seen by the server.

    Raises:
        RequestError: if they cannot be written, or the server keeps them elsewhere than this machine writes them.
    """
    place = local_path(run.artifact_uri)
    remote = is_server(uri)
    hint = (
        "start it with mlflow server --serve-artifacts --artifacts-destination PLACE, or let this machine write there"
        if remote
        else None
    )
    try:
        with answering(uri, "artefacts cannot be written"), brief(uri):
            yield
            seen = not remote or place is None or lists_artifact(uri, run.run_id, _CONFIG)
    except EmonetError as error:
        raise RequestError(
            "the server's artefacts cannot be written from this machine" if remote else "artefacts cannot be written",
            where=place or run.artifact_uri,
            found=reason(error.__cause__ or error),
            hint=hint or "--runs FOLDER names another place",
        ) from error
    if not seen:
        _take_back(place)
        raise RequestError(
            "the server keeps artefacts at a path of its own machine, where this one cannot put them",
            where=hidden(uri),
            found=run.artifact_uri,
            hint=hint,
        )


def _take_back(place: Path | None) -> None:
    """Remove the first artefact of a run from where nobody would look for it, with the folders made for it."""
    if place is not None:
        (place / _CONFIG).unlink(missing_ok=True)
        with suppress(OSError):  # the first that holds something else
            for folder in (place, *place.parents):
                folder.rmdir()


def exists(uri: str, run_id: str, artifacts: Path) -> bool:
    """Whether a run is there and was not deleted.

    Raises:
        EmonetError: if the tracking server or database cannot be used.
    """
    server = _connect(uri, artifacts)
    with answering(uri, _UNUSABLE):
        try:
            return bool(server.get_run(run_id).info.lifecycle_stage == "active")
        except ServerError as error:
            if error.error_code == _MISSING:
                return False
            raise


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
    server = _connect(uri, artifacts, hint)
    with answering(uri, _UNUSABLE):
        _not_deleted(server.get_experiment_by_name(name), uri)


def _connect(uri: str, artifacts: Path, hint: str | None = None) -> Server:
    """A client whose database exists: created by one process, also when several start at once.

    Raises:
        RequestError: if the database or its folder cannot be written.
        EmonetError: if the server or database does not answer as one of MLflow's.
    """
    path, runs = sqlite_path(uri), artifacts.parent
    if not is_server(uri):
        require_writable(path or runs / "mlflow.db", hint)
    with answering(
        uri, _UNUSABLE, None if is_server(uri) else "check MLFLOW_TRACKING_URI, or unset it to use runs/mlflow.db"
    ):
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


def _experiment_id(server: Server, uri: str, name: str, artifacts: Path) -> str:
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


def _open_up(location: str) -> None:
    """MLflow makes a model in a folder of the owner's alone, and copies that mode: let the umask say who reads it."""
    there = local_path(location)
    if there is not None and there.is_dir():
        durable.follow_umask(there)


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """A configuration as parameters, `section.field` and its value as text."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def _revision() -> dict[str, str]:
    """The git revision of the code, and whether it was changed; empty outside a checkout."""
    code = Code.here()
    if code.revision is None:
        return {}
    return {"mlflow.source.git.commit": code.revision, "git.dirty": str(code.changed)}


def _milliseconds() -> int:
    return int(time.time() * 1000)
