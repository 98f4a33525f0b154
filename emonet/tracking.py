"""Runs: what is logged, and where; the only module that imports mlflow."""

from __future__ import annotations

import json
import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing leaves the machine unasked
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

import mlflow
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.types import ColSpec, Schema

from emonet.errors import EmonetError
from emonet.lineage import Code
from emonet.names import as_text

URI_VARIABLE = "MLFLOW_TRACKING_URI"
PARENT = "mlflow.parentRunId"  # the tag by which MLflow nests runs
_BATCH = 1000  # metrics that a server takes at once
Server = MlflowClient
ServerError = MlflowException
"""What MLflow raises where the server refuses."""

for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.ERROR)  # migrations and hints; warnings of ours go elsewhere


@dataclass(frozen=True)
class Run:
    """An MLflow run in progress.

    Args:
        id: its MLflow id.
        client: talks to the tracking server.
        uri: of the tracking server.
    """

    id: str
    client: MlflowClient
    uri: str

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log metrics at a step; keys may hold letters, digits and `_-./ `."""
        self.client.log_batch(
            self.id,
            metrics=[mlflow.entities.Metric(key, float(value), _milliseconds(), step) for key, value in values.items()],
        )

    def model_metrics(self, model_id: str, values: Mapping[str, float], dataset: tuple[str, str]) -> None:
        """Log metrics to a logged model, by way of this run.

        Args:
            model_id: MLflow's id of the model.
            values: by key.
            dataset: name and digest of the data behind them.
        """
        now, (name, digest) = _milliseconds(), dataset
        points = [
            mlflow.entities.Metric(
                key, float(value), now, 0, model_id=model_id, dataset_name=name, dataset_digest=digest, run_id=self.id
            )
            for key, value in values.items()
        ]
        for start in range(0, len(points), _BATCH):
            self.client.log_batch(self.id, metrics=points[start : start + _BATCH])

    def used(self, model_ids: Sequence[str]) -> None:
        """Name logged models as inputs of this run."""
        self.client.log_inputs(self.id, models=[mlflow.entities.LoggedModelInput(one) for one in model_ids])

    def curves(self, values: Mapping[str, Sequence[float]]) -> None:
        """Log whole curves at once, the steps counted from 0: one transaction, however many processes log."""
        now = _milliseconds()
        points = [
            mlflow.entities.Metric(key, float(value), now, step)
            for key, curve in values.items()
            for step, value in enumerate(curve)
        ]
        for start in range(0, len(points), _BATCH):
            self.client.log_batch(self.id, metrics=points[start : start + _BATCH])

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Log a file or a folder."""
        log = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        log(self.id, str(path), folder)

    def text(self, text: str, name: str) -> None:
        """Log a text as the artefact `name`."""
        self.client.log_text(self.id, text, name)

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        for key, value in values.items():
            self.client.set_tag(self.id, key, as_text(value))

    def lightning_logger(self) -> Any:
        """A Lightning logger that writes into this run."""
        from lightning.pytorch.loggers import MLFlowLogger

        return MLFlowLogger(run_id=self.id, tracking_uri=self.uri, log_model=False)

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
        """
        taken, given = (Schema([ColSpec(t, c) for c, t in side.items()]) for side in (inputs, outputs))
        with warnings.catch_warnings():
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

    Args:
        uri: of the tracking server or database.
        experiment: MLflow experiment, created when missing.
        name: of the run.
        artifacts: folder for artefacts where the tracking store is a database; a server has a place of its own.
        config: JSON-able; logged as `config.json` and, flattened, as parameters.
        tags: further tags.
        parent: id of the run that MLflow's pages show it below.

    Raises:
        EmonetError: if the tracking server or database cannot be used.
    """
    server = _connect(uri, artifacts)
    nested = {} if parent is None else {PARENT: parent}
    run = server.create_run(_experiment_id(server, uri, experiment, artifacts), run_name=name, tags=nested)
    with _ending(server, run.info.run_id), pointed_at(uri), mlflow.start_run(run.info.run_id, nested=True):
        handle = Run(run.info.run_id, server, uri)
        handle.tags({**tags, **_revision()})
        server.log_dict(handle.id, dict(config), "config.json")
        server.log_batch(handle.id, params=[mlflow.entities.Param(key, value) for key, value in _flat(config)])
        yield handle


@contextmanager
def _ending(server: MlflowClient, run_id: str) -> Iterator[None]:
    """Write how a run ended."""
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        server.set_terminated(run_id, status)


@contextmanager
def taken_up(uri: str, run_id: str, artifacts: Path) -> Iterator[Run]:
    """A run that was started before, taken up again; it ends as of `start_run`.

    Raises:
        EmonetError: if the tracking server or database cannot be used.
    """
    server = _connect(uri, artifacts)
    server.update_run(run_id, status="RUNNING")
    with _ending(server, run_id), pointed_at(uri), mlflow.start_run(run_id, nested=True):
        yield Run(run_id, server, uri)


def record_run(
    parent: Run,
    *,
    name: str,
    config: Mapping[str, Any],
    tags: Mapping[str, str],
    curves: Mapping[str, Sequence[float]],
    figures: Mapping[str, float],
    span: tuple[float, float],
    status: Literal["FINISHED", "FAILED", "KILLED"],
) -> None:
    """Log a run below another that happened elsewhere; touches nothing global, so that a thread may do it.

    Args:
        parent: the run above it.
        name: of the run.
        config: JSON-able, as of `start_run`.
        tags: of the run.
        curves: by key, the steps counted from 0.
        figures: metrics without steps.
        span: when it began and ended (seconds since 1970).
        status: how it ended.
    """
    server, (began, ended) = parent.client, (int(1000 * moment) for moment in span)
    experiment = server.get_run(parent.id).info.experiment_id
    run_id = server.create_run(experiment, began, {**tags, PARENT: parent.id}, name).info.run_id
    run = Run(run_id, server, parent.uri)
    server.log_dict(run_id, dict(config), "config.json")
    server.log_batch(run_id, params=[mlflow.entities.Param(key, value) for key, value in _flat(config)])
    run.curves(curves)
    run.metrics(figures)
    server.set_terminated(run_id, status, ended)


def recorded(parent: Run, tag: str) -> set[str]:
    """The values of a tag among the runs below another; those that were not logged to their end are deleted."""
    experiment, found, token = parent.client.get_run(parent.id).info.experiment_id, set(), None
    while True:
        runs = parent.client.search_runs([experiment], f"tags.`{PARENT}` = '{parent.id}'", page_token=token)
        for run in runs:
            if tag in run.data.tags and run.info.status == "RUNNING":
                parent.client.delete_run(run.info.run_id)
            elif tag in run.data.tags:
                found.add(run.data.tags[tag])
        token = runs.token
        if not token:
            return found


def exists(uri: str, run_id: str, artifacts: Path) -> bool:
    """Whether a run is there and was not deleted.

    Raises:
        EmonetError: if the tracking server or database cannot be used.
    """
    try:
        return bool(_connect(uri, artifacts).get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException:
        return False


def default_uri(runs: Path) -> str:
    """`MLFLOW_TRACKING_URI`, or the SQLite database `mlflow.db` below `runs`."""
    return os.environ.get(URI_VARIABLE) or f"sqlite:///{(runs / 'mlflow.db').resolve()}"


def download(source: str, uri: str) -> Path:
    """The local folder of what `models:/...` or `runs:/...` names; errors of MLflow and of what it uses pass."""
    with pointed_at(uri):
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=source))


def stored_bytes(source: str, uri: str) -> int | None:
    """Size of the artefacts at an URI; None if there are none (any more)."""
    with pointed_at(uri):
        repository = get_artifact_repository(source)
        sizes = list(_sizes(repository, None))
    return sum(sizes) if sizes else None


def delete_files(source: str, uri: str) -> None:
    """Delete the artefacts at an URI; none is no error."""
    with pointed_at(uri):
        repository: Any = get_artifact_repository(source)
        if any(True for _ in _sizes(repository, None)):
            repository.delete_artifacts()


def _sizes(repository: Any, folder: str | None) -> Iterator[int]:
    for entry in repository.list_artifacts(folder):
        if entry.is_dir:
            yield from _sizes(repository, entry.path)
        else:
            yield int(entry.file_size or 0)


def client(uri: str) -> MlflowClient:
    """A client whose registry is the tracking server's own, whatever else this process has used."""
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def pointed_at(uri: str) -> Iterator[None]:
    """Make `uri` mlflow's current server and registry, and leave no trace: its setters write the environment, too."""
    names = (URI_VARIABLE, "MLFLOW_REGISTRY_URI")
    before = {name: os.environ.get(name) for name in names}
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before[names[0]])  # type: ignore[arg-type]  # None unsets it
        mlflow.set_registry_uri(before[names[1]])  # type: ignore[arg-type]
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _connect(uri: str, artifacts: Path) -> MlflowClient:
    """A client whose database exists: created by one process, also when several start at once."""
    try:
        artifacts.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(artifacts.parent / ".mlflow.lock"):
            server = client(uri)
            server.search_experiments(max_results=1)
    except Exception as error:  # mlflow lets SQLAlchemy's, requests' and its own errors through
        raise EmonetError(
            "the tracking server cannot be used",
            where=uri,
            found=str(error).splitlines()[0],
            hint="check MLFLOW_TRACKING_URI, or unset it to use runs/mlflow.db",
        ) from error
    return server


def _experiment_id(server: MlflowClient, uri: str, name: str, artifacts: Path) -> str:
    found = server.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    local = not uri.startswith(("http://", "https://"))  # a database, whose artefacts this process writes itself
    try:
        return str(server.create_experiment(name, artifacts.resolve().as_uri() if local else None))
    except MlflowException:  # another process created it in between
        found = server.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", as_text(value) if isinstance(value, str) else json.dumps(value)


def _revision() -> dict[str, str]:
    """The git revision of the code, and whether it was changed; empty outside a checkout."""
    code = Code.here()
    if code.revision is None:
        return {}
    return {"mlflow.source.git.commit": code.revision, "git.dirty": str(code.changed)}


def _milliseconds() -> int:
    return int(time.time() * 1000)
