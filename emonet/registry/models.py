"""The model registry: versions of the captioner and of the voice model, their aliases, and how they are found."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

from emonet.errors import EmonetError, RequestError
from emonet.registry.artifacts import fetch, forget, kept
from emonet.registry.contract import ENCODER, ERROR, NOTICES, SETTINGS
from emonet.schema import Registered
from emonet.tracking import (
    URI_VARIABLE,
    Run,
    Server,
    ServerError,
    answering,
    client,
    hidden,
    is_server,
    reason,
    sqlite_path,
)

CAPTIONER = "emonet-captioner"
VOICE = "emonet-voice"
CANDIDATE = "candidate"
CHAMPION = "champion"
PUBLISHED = "published"  # the experiment of models that others trained
RUNS = Path("runs")
_UNREGISTERED = "the model is logged, but the registry does not take it as a version"
_NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND")
_NO_REGISTRY = "run it where `runs/` is, name it with --runs FOLDER, or train: make pretrain extract heads"
# What the registered voice model needs to run, at the versions that it was trained with. torchaudio is not among them:
# on a torch without CUDA its wheel cannot be imported as it is.
VOICE_REQUIREMENTS = (
    "torch", "lazy-loader", "transformers", "safetensors", "soundfile", "soxr", "numpy", "pandas", "pydantic",
    "jaxtyping", "filelock",
)  # fmt: skip


def register_captioner(run: Run, folder: Path, metrics: Mapping[str, float]) -> Registered:
    """Log a Hugging Face folder and register it as a version of `emonet-captioner`.

    Raises:
        EmonetError: if the registry does not take it.
    """
    run.artifact(folder, "captioner")
    run.flush()
    with answering(run.uri, _UNREGISTERED):
        source = f"{run.client.get_run(run.id).info.artifact_uri}/captioner"
        _ensure_model(run.client, CAPTIONER, "Whisper that writes how a speaker feels; a Hugging Face folder.")
        version = run.client.create_model_version(CAPTIONER, source, run_id=run.id, tags=_as_tags(metrics))
        return _with_aliases(run.client, CAPTIONER, int(version.version))


def register_voice(
    run: Run,
    folder: Path,
    target_ids: tuple[str, ...],
    metrics: Mapping[str, float],
    tags: Mapping[str, str] = MappingProxyType({}),
    description: str = "",
) -> Registered:
    """Log a voice model's folder as a pyfunc and register it as a version of `emonet-voice`.

    Its `predict` takes a frame with a column `audio` and returns a frame of scores (`emonet.serving`); the code of the
    package `emonet` travels with it.

    Args:
        folder: of the voice model.
        target_ids: columns of the frame.
        metrics: test figures, which become tags of the version.
        tags: further tags of the version.
        description: of the version, as MLflow's pages show it.

    Raises:
        EmonetError: if the registry does not take it.
    """
    source, model_id = run.pyfunc(
        "voice",
        folder,
        loader="emonet.serving",
        code=Path(__file__).parents[1],
        requirements=_requirements(folder),
        inputs={"audio": "string"},
        outputs={**dict.fromkeys(target_ids, "double"), NOTICES: "string", ERROR: "string"},
        settings=SETTINGS,
    )
    with answering(run.uri, _UNREGISTERED):
        _ensure_model(run.client, VOICE, "Encoder and experts: recordings in, a frame of scores out.")
        version = run.client.create_model_version(
            VOICE,
            source,
            run_id=run.id,
            tags={**_as_tags(metrics), **tags},
            model_id=model_id,
            description=description or None,
        )
        return _with_aliases(run.client, VOICE, int(version.version))


def _requirements(folder: Path) -> list[str]:
    """What a voice model needs to run, a plug-in that brings its encoder included."""
    from emonet.encoders import read_note

    note = read_note(folder / ENCODER)
    ours = [f"{name}=={metadata.version(name).split('+')[0]}" for name in VOICE_REQUIREMENTS]
    return ours if note is None else [*ours, note.package]


def resolve(source: str, uri: str, runs: Path = RUNS) -> str:
    """A local folder for a registry or run URI (`models:/NAME@ALIAS`, `runs:/ID/PATH`); else `source` as it is.

    Args:
        source: what was typed.
        uri: of the registry.
        runs: folder that keeps what is downloaded from a server.

    Raises:
        RequestError: if the registry has no such model, version or alias, or its files are not found.
        EmonetError: if the registry cannot be used.
    """
    if not source.startswith(("models:/", "runs:/")):
        return source
    require_registry(uri, source)
    try:
        return str(fetch(source, uri, runs, _label(source, uri, runs)))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _lost(source, error, uri) from error
    except PermissionError as error:
        raise RequestError(
            f"the registry has {source!r}, but its files cannot be read",
            where=error.args[-1],
            found="permission denied",
            hint="its owner lets others read it: chmod -R g+rX FOLDER",
        ) from error
    except Exception as error:  # mlflow lets SQLAlchemy's, requests' and its own errors through
        raise _no_model(source, uri, error) from error


def _label(source: str, uri: str, runs: Path) -> str:
    """What a downloaded copy is kept under: the version, whatever alias named it; copies of deleted versions go."""
    if is_server(uri) and source.startswith("models:/"):
        server, (name, which) = client(uri), split_model(source)
        if not which:  # a logged model, by its id
            return name
        by_alias = "@" in source
        found = server.get_model_version_by_alias(name, which) if by_alias else server.get_model_version(name, which)
        there = {f"{name}-{one.version}" for one in server.search_model_versions(f"name='{name}'")}
        for label in kept(runs) - there:
            if re.fullmatch(rf"{re.escape(name)}-\d+", label):
                forget(runs, label)
        return f"{name}-{found.version}"
    return "run-" + "-".join(source.removeprefix("runs:/").split("/"))


def split_model(source: str) -> tuple[str, str]:
    """Name and version or alias of `models:/NAME/VERSION` or `models:/NAME@ALIAS`, without what follows."""
    name, _, which = source.removeprefix("models:/").replace("@", "/").partition("/")
    return name, which.partition("/")[0]


def _lost(source: str, error: OSError, uri: str) -> RequestError:
    remote = is_server(uri)
    return RequestError(
        f"the registry has {source!r}, but its files are not found",
        where=error.args[-1],
        hint="put the folder back, or use the registry where its files are; emonet registry list shows other versions"
        if not remote
        else "they lie on the server's machine or were deleted; emonet registry list shows other versions",
    )


def require_registry(uri: str, source: str = "models") -> None:
    """Check that an embedded registry is there: mlflow would make an empty one.

    Args:
        uri: of the registry.
        source: what is looked for.

    Raises:
        RequestError: if it is not.
    """
    database = sqlite_path(uri)
    if database is not None and not database.is_file():
        raise RequestError(
            f"there is no registry here to look for {source!r} in",
            where=database,
            hint=_set_elsewhere(uri) or _NO_REGISTRY,
        )


def _no_model(source: str, uri: str, error: Exception) -> EmonetError:
    """What the registry has instead of `source`."""
    try:
        if not isinstance(error, ServerError) or error.error_code not in _NOT_THERE:
            raise error  # a server that does not answer is not asked again: mlflow tries for minutes
        found, aliases = _versions(uri), _aliases(source, uri)
    except Exception as unanswered:  # noqa: BLE001
        return EmonetError(
            "the registry cannot be used",
            where=hidden(uri),
            found=reason(unanswered),
            hint=_set_elsewhere(uri) or "name another one with --runs FOLDER",
        )
    name, _, alias = source.rpartition("@")
    near = difflib.get_close_matches(alias, aliases, n=1)
    hint = f"{name}@{near[0]}" if near else _set_elsewhere(uri)
    return RequestError(
        f"the registry has no model {source!r}",
        where=hidden(uri),
        found=(found or "an empty registry") + (f"; aliases {', '.join(aliases)}" if aliases else ""),
        hint=hint or "emonet pretrain, extract and heads train and register models",
    )


def _set_elsewhere(uri: str) -> str | None:
    """What to do if `uri` is not where it would be by default."""
    named = os.environ.get(URI_VARIABLE)
    return f"{URI_VARIABLE}={hidden(uri)} is set; unset it or correct it" if named == uri else None


def _versions(uri: str) -> str:
    server = client(uri)
    rows = [f"{v.name} version {v.version}" for v in server.search_model_versions("")]
    return ", ".join(rows[:5]) + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")


def _aliases(source: str, uri: str) -> list[str]:
    """The aliases of the registered model that `models:/NAME@ALIAS` names."""
    name, at, _ = source.removeprefix("models:/").partition("@")
    if not at:
        return []
    try:
        return sorted(client(uri).get_registered_model(name).aliases)
    except ServerError:  # there is no such model
        return []


def _ensure_model(server: Server, name: str, description: str) -> None:
    try:
        server.create_registered_model(name, description=description)
    except ServerError as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _with_aliases(server: Server, name: str, version: int) -> Registered:
    """Every new version is the candidate; the first one is the champion until a comparison moves that alias."""
    server.set_registered_model_alias(name, CANDIDATE, str(version))
    if CHAMPION not in server.get_registered_model(name).aliases:
        server.set_registered_model_alias(name, CHAMPION, str(version))
    return Registered(name=name, version=version)


def _as_tags(values: Mapping[str, float]) -> dict[str, str]:
    return {key: f"{value:.12g}" for key, value in values.items()}
