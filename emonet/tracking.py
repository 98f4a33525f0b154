"""Runs and the model registry: the only module that imports mlflow."""

from __future__ import annotations

import difflib
import json
import logging
import os
import subprocess
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing leaves the machine unasked
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

import mlflow
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

from emonet.errors import EmonetError, RequestError
from emonet.schema import Registered

CAPTIONER = "emonet-captioner"
VOICE = "emonet-voice"
CANDIDATE = "candidate"
CHAMPION = "champion"
PUBLISHED = "published"  # the experiment of models that others trained
_URI = "MLFLOW_TRACKING_URI"
_NO_REGISTRY = "run it where `runs/` is, name it with --runs FOLDER, or train: make pretrain extract heads"
# What the registered voice model needs to run, at the versions that it was trained with.
VOICE_REQUIREMENTS = (
    "torch", "torchaudio", "transformers", "safetensors", "soundfile", "soxr", "numpy", "pandas", "pydantic",
    "jaxtyping", "filelock",
)  # fmt: skip

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
            self.client.set_tag(self.id, key, value)

    def lightning_logger(self) -> Any:
        """A Lightning logger that writes into this run."""
        from lightning.pytorch.loggers import MLFlowLogger

        return MLFlowLogger(run_id=self.id, tracking_uri=self.uri, log_model=False)

    def register_captioner(self, folder: Path, metrics: Mapping[str, float]) -> Registered:
        """Log a Hugging Face folder and register it as a version of `emonet-captioner`."""
        self.client.log_artifacts(self.id, str(folder), "captioner")
        source = f"{self.client.get_run(self.id).info.artifact_uri}/captioner"
        _ensure_model(self.client, CAPTIONER, "Whisper that writes how a speaker feels; a Hugging Face folder.")
        version = self.client.create_model_version(CAPTIONER, source, run_id=self.id, tags=_as_tags(metrics))
        return _with_aliases(self.client, CAPTIONER, int(version.version))

    def register_voice(
        self,
        folder: Path,
        target_ids: tuple[str, ...],
        metrics: Mapping[str, float],
        tags: Mapping[str, str] = MappingProxyType({}),
    ) -> Registered:
        """Log a voice model's folder as a pyfunc and register it as a version of `emonet-voice`.

        Its `predict` takes a frame with a column `audio` of paths and returns a frame of scores; the code of the
        package `emonet` travels with it.

        Args:
            folder: of the voice model.
            target_ids: columns of the frame.
            metrics: test figures, which become tags of the version.
            tags: further tags of the version.
        """
        _ensure_model(self.client, VOICE, "Encoder and experts: audio paths in, a frame of scores out.")
        signature = ModelSignature(
            inputs=Schema([ColSpec("string", "audio")]),
            outputs=Schema([ColSpec("double", target) for target in target_ids]),
        )
        with warnings.catch_warnings():
            # The signature is given; an example would need an audio file that a later reader has as well.
            warnings.filterwarnings("ignore", message=".*input example was not provided", category=UserWarning)
            info = mlflow.pyfunc.log_model(
                name="voice",
                loader_module="emonet.serving",
                data_path=str(folder),
                code_paths=[str(Path(__file__).parent)],
                pip_requirements=[f"{name}=={metadata.version(name).split('+')[0]}" for name in VOICE_REQUIREMENTS],
                signature=signature,
                model_config={"experts_precision": "float32"},  # what a reader may change: load_model(model_config=...)
                step=0,
            )
        version = self.client.create_model_version(
            VOICE, info.artifact_path, run_id=self.id, tags={**_as_tags(metrics), **tags}, model_id=info.model_id
        )
        return _with_aliases(self.client, VOICE, int(version.version))


@contextmanager
def start_run(
    uri: str,
    *,
    experiment: str,
    name: str,
    artifacts: Path,
    config: Mapping[str, Any],
    tags: Mapping[str, str],
) -> Iterator[Run]:
    """An MLflow run with its configuration, tags and the git revision; failed or killed where the block raises.

    Args:
        uri: of the tracking server or database.
        experiment: MLflow experiment, created when missing.
        name: of the run.
        artifacts: folder for artefacts where the tracking store is a local database.
        config: JSON-able; logged as `config.json` and, flattened, as parameters.
        tags: further tags.

    Raises:
        EmonetError: if the tracking server or database cannot be used.
    """
    client = _connect(uri, artifacts)
    run = client.create_run(_experiment_id(client, uri, experiment, artifacts), run_name=name)
    status = "FAILED"
    try:
        with _pointed_at(uri), mlflow.start_run(run.info.run_id):
            handle = Run(run.info.run_id, client, uri)
            handle.tags({**tags, **_revision()})
            client.log_dict(handle.id, dict(config), "config.json")
            client.log_batch(handle.id, params=[mlflow.entities.Param(key, value) for key, value in _flat(config)])
            yield handle
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        client.set_terminated(run.info.run_id, status)


def resolve(source: str, uri: str) -> str:
    """A local folder for a registry or run URI (`models:/NAME@ALIAS`, `runs:/ID/PATH`); else `source` as it is.

    Raises:
        RequestError: if the registry has no such model, version or alias.
        EmonetError: if the registry cannot be used.
    """
    if not source.startswith(("models:/", "runs:/")):
        return source
    database = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not database.is_file():  # mlflow would make an empty one
        raise RequestError(
            f"there is no registry here to look for {source!r} in",
            where=database,
            hint=_set_elsewhere(uri) or _NO_REGISTRY,
        )
    try:
        with _pointed_at(uri):
            return str(Path(mlflow.artifacts.download_artifacts(artifact_uri=source)))
    except Exception as error:  # mlflow lets SQLAlchemy's, requests' and its own errors through
        raise _no_model(source, uri, error) from error


def _no_model(source: str, uri: str, error: Exception) -> EmonetError:
    """What the registry has instead of `source`."""
    try:
        if not uri.startswith("sqlite") and getattr(error, "error_code", "") == "INTERNAL_ERROR":
            raise error  # a server that does not answer is not asked again: mlflow tries for minutes
        found, aliases = _versions(uri), _aliases(source, uri)
    except Exception as unanswered:  # noqa: BLE001
        return EmonetError(
            "the registry cannot be used",
            where=uri,
            found=str(unanswered).partition("\n")[0],
            hint=_set_elsewhere(uri) or "name another one with --runs FOLDER",
        )
    name, _, alias = source.rpartition("@")
    near = difflib.get_close_matches(alias, aliases, n=1)
    hint = f"{name}@{near[0]}" if near else _set_elsewhere(uri)
    return RequestError(
        f"the registry has no model {source!r}",
        where=uri,
        found=(found or "an empty registry") + (f"; aliases {', '.join(aliases)}" if aliases else ""),
        hint=hint or "emonet pretrain, extract and heads train and register models",
    )


def _set_elsewhere(uri: str) -> str | None:
    """What to do if `uri` is not where it would be by default."""
    named = os.environ.get(_URI)
    return f"{_URI}={named} is set; unset it or correct it" if named == uri else None


@dataclass(frozen=True)
class Version:
    """What the registry says of one model version.

    Args:
        name: of the registered model.
        version: counted from 1.
        experiment: name of the emonet experiment that trained it.
        uri: `models:/NAME/VERSION`.
    """

    name: str
    version: int
    experiment: str
    uri: str


def default_uri(runs: Path) -> str:
    """`MLFLOW_TRACKING_URI`, or the SQLite database `mlflow.db` below `runs`."""
    return os.environ.get(_URI) or f"sqlite:///{(runs / 'mlflow.db').resolve()}"


def find(name: str, alias: str, uri: str) -> Version | None:
    """The version of a registered model that bears an alias, or None."""
    client = _client(uri)
    try:
        found = client.get_model_version_by_alias(name, alias)
        run = client.get_run(str(found.run_id))
        experiment = client.get_experiment(run.info.experiment_id).name
    except MlflowException:
        return None
    return Version(name, int(found.version), experiment, f"models:/{name}/{found.version}")


def _versions(uri: str) -> str:
    client = _client(uri)
    rows = [f"{v.name} version {v.version}" for v in client.search_model_versions("")]
    return ", ".join(rows[:5]) + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")


def _aliases(source: str, uri: str) -> list[str]:
    """The aliases of the registered model that `models:/NAME@ALIAS` names."""
    name, at, _ = source.removeprefix("models:/").partition("@")
    if not at:
        return []
    try:
        return sorted(_client(uri).get_registered_model(name).aliases)
    except MlflowException:  # there is no such model
        return []


def _client(uri: str) -> MlflowClient:
    """A client whose registry is the tracking server's own, whatever else this process has used."""
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def _pointed_at(uri: str) -> Iterator[None]:
    """Make `uri` mlflow's current server and registry, and leave no trace: its setters write the environment, too."""
    names = (_URI, "MLFLOW_REGISTRY_URI")
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
            client = _client(uri)
            client.search_experiments(max_results=1)
    except Exception as error:  # mlflow lets SQLAlchemy's, requests' and its own errors through
        raise EmonetError(
            "the tracking server cannot be used",
            where=uri,
            found=str(error).splitlines()[0],
            hint="check MLFLOW_TRACKING_URI, or unset it to use runs/mlflow.db",
        ) from error
    return client


def _experiment_id(client: MlflowClient, uri: str, name: str, artifacts: Path) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    local = uri.startswith("sqlite")
    try:
        return str(client.create_experiment(name, artifacts.resolve().as_uri() if local else None))
    except MlflowException:  # another process created it in between
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)


def _ensure_model(client: MlflowClient, name: str, description: str) -> None:
    try:
        client.create_registered_model(name, description=description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _with_aliases(client: MlflowClient, name: str, version: int) -> Registered:
    """Every new version is the candidate; the first one is the champion until a comparison moves that alias."""
    client.set_registered_model_alias(name, CANDIDATE, str(version))
    if CHAMPION not in client.get_registered_model(name).aliases:
        client.set_registered_model_alias(name, CHAMPION, str(version))
    return Registered(name=name, version=version)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def _as_tags(values: Mapping[str, float]) -> dict[str, str]:
    return {key: f"{value:.6g}" for key, value in values.items()}


def _revision() -> dict[str, str]:
    """The git revision of the code, and whether it was changed; empty outside a checkout."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = git("rev-parse", "HEAD")
        return (
            {"mlflow.source.git.commit": commit, "git.dirty": str(bool(git("status", "--porcelain")))} if commit else {}
        )
    except OSError:
        return {}  # git is not installed


def _milliseconds() -> int:
    return int(time.time() * 1000)
