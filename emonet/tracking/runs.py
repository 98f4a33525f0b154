"""MLflow runs: what is logged, and where."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from emonet.names import as_text
from emonet.runtime import durable, ended_by_signal, shielded
from emonet.tracking.answers import answering, brief
from emonet.tracking.backlog import Backlog
from emonet.tracking.connection import (
    LoggedModelInput,
    Metric,
    Param,
    RunTag,
    Server,
    ServerError,
    active,
    client,
    default_uri,
    log_pyfunc,
    pointed_at,
    reachable,
)
from emonet.tracking.lineage import Code
from emonet.tracking.orphans import close_orphans, disown, owner
from emonet.tracking.preflight import CONFIG, UNUSABLE, artifacts_kept, connect, experiment_of, require_experiment
from emonet.tracking.relocation import local_path

__all__ = [
    "Run", "client", "default_uri", "finished_below", "record_run", "require_experiment", "run_exists", "start_run",
    "taken_up",
]  # fmt: skip

PARENT = "mlflow.parentRunId"  # the tag by which MLflow nests runs
_BATCH = 1000  # metrics that a server takes at once
_MISSING = "RESOURCE_DOES_NOT_EXIST"


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

        def send() -> None:
            self._settle()
            log = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
            log(self.id, str(path), folder)

        self._log(send, brief=False)

    def text(self, text: str, name: str) -> None:
        """Log a text as the artefact `name`."""

        def send() -> None:
            self._settle()
            self.client.log_text(self.id, text, name)

        self._log(send)

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        tags = [RunTag(key, as_text(value)) for key, value in values.items()]
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
    server = connect(uri, artifacts)
    _close_orphans(server, uri)
    with answering(uri, UNUSABLE):
        experiment_id = experiment_of(server, uri, experiment, artifacts)
    nested = {} if parent is None else {PARENT: parent}
    with ExitStack() as begun:
        with shielded(), answering(uri, UNUSABLE):
            run = server.create_run(experiment_id, run_name=name, tags={**nested, **owner()}).info
            begun.enter_context(_ending(server, uri, run.run_id))
        handle = begun.enter_context(_in_progress(server, uri, run.run_id))
        with answering(uri, UNUSABLE):
            server.log_batch(
                handle.id,
                params=[Param(key, value) for key, value in _flat(config)],
                tags=[RunTag(key, as_text(value)) for key, value in {**tags, **_revision()}.items()],
            )
        with artifacts_kept(uri, run):
            server.log_dict(handle.id, dict(config), CONFIG)
        yield handle


@contextmanager
def taken_up(uri: str, run_id: str, artifacts: Path) -> Iterator[Run]:
    """A run that was started before, taken up again; it ends as in `start_run`.

    Raises:
        EmonetError: if the tracking server or database cannot be used.
    """
    server = connect(uri, artifacts)
    _close_orphans(server, uri)
    with ExitStack() as begun:
        with shielded(), answering(uri, UNUSABLE):
            # The tag comes first: a run that is open and names dead processes only is closed by others.
            server.log_batch(run_id, tags=[RunTag(key, value) for key, value in owner().items()])
            server.update_run(run_id, status="RUNNING")
            begun.enter_context(_ending(server, uri, run_id))
        yield begun.enter_context(_in_progress(server, uri, run_id))


def _close_orphans(server: Server, uri: str) -> None:
    with suppress(Exception), brief(uri):  # what others have left does not stop this one
        close_orphans(server)


@contextmanager
def _in_progress(server: Server, uri: str, run_id: str) -> Iterator[Run]:
    backlog = Backlog(uri, lambda: server.search_experiments(max_results=1))
    with pointed_at(uri), active(run_id):
        try:
            yield Run(run_id, server, uri, backlog)
        except BaseException:
            with suppress(Exception):  # a server that has come back gets what it missed; nothing waits for one
                backlog.flush(0)
            raise
        backlog.flush()


@contextmanager
def _ending(server: Server, uri: str, run_id: str) -> Iterator[None]:
    """Write how a run ended."""
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except BaseException as error:
        if ended_by_signal(error):
            status = "KILLED"
        raise
    finally:
        # A server that is away as well must not hide why a run failed.
        told = answering(uri, UNUSABLE) if status == "FINISHED" else suppress(Exception)
        with shielded(), told, brief(uri):
            server.set_terminated(run_id, status)
            disown(server, run_id)


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
        config: JSON-able, as in `start_run`.
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
    reachable(parent.uri)  # as before each artefact
    server.log_dict(run_id, dict(config), CONFIG)
    server.log_batch(run_id, params=[Param(key, value) for key, value in _flat(config)])
    run.curves(curves)
    run.metrics(figures)
    server.set_terminated(run_id, status, ended)


def finished_below(parent: Run, tag: str) -> set[str]:
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


def run_exists(uri: str, run_id: str, artifacts: Path) -> bool:
    """Whether a run is there and was not deleted.

    Raises:
        EmonetError: if the tracking server or database cannot be used.
    """
    server = connect(uri, artifacts)
    with answering(uri, UNUSABLE):
        try:
            return bool(server.get_run(run_id).info.lifecycle_stage == "active")
        except ServerError as error:
            if error.error_code == _MISSING:
                return False
            raise


def _open_up(location: str) -> None:
    """MLflow makes a model in a folder of the owner's alone, and copies that mode: let the umask say who reads it."""
    there = local_path(location)
    if there is not None and there.is_dir():
        durable.follow_umask(there)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """A configuration as parameters, `section.field` and its value as text."""
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
