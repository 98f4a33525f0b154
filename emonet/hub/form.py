"""The form of a voice model on the hub: `config.json` beside `encoder/` and `experts/`, and which files travel."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from emonet.checkpoints import check_banks
from emonet.errors import RequestError, shortened
from emonet.registry import ENCODER, EXPERTS
from emonet.schema import Schema
from emonet.version import __version__

CONFIG = "config.json"
LIBRARY = "emonet"
VERSION = 1  # of the form; readers refuse those that they do not know
PLUGGED = f"{ENCODER}/plugin.json"  # the note of an encoder that a plug-in brings
PLACES = (f"{ENCODER}/", f"{EXPERTS}/")
# What a model is made of: descriptions and weights, none of which runs when it is read. Tables of clips stay at home.
SUFFIXES = (".json", ".safetensors", ".txt", ".jinja")


class HubConfig(Schema):
    """What `config.json` says of a voice model on the hub."""

    library_name: Literal["emonet"] = "emonet"
    """What loads it."""
    model_type: Literal["emonet-voice"] = "emonet-voice"
    """Which kind of model it is."""
    format_version: Literal[1] = 1
    """Of this form (count)."""
    emonet: str = __version__
    """The version of emonet that wrote it."""
    name: str
    """Of the model, as its card has it: what tells an update from another model."""
    encoder_digest: str
    """SHA-256 of the encoder's weights."""
    window_seconds: float = Field(gt=0)
    """How much of a recording is heard (seconds)."""
    targets: tuple[str, ...]
    """Ids of what there is an expert for."""
    files: dict[str, int]
    """Path in the repository -> size (bytes) of all that it is made of."""


def voice_files(folder: Path) -> dict[str, Path]:
    """Path in the repository -> file, of all that a voice model needs to run."""
    found = {
        path.relative_to(folder).as_posix(): path
        for place in PLACES
        for path in sorted((folder / place).rglob("*"))
        if path.is_file() and is_of_a_model(path.relative_to(folder).as_posix())
    }
    return dict(sorted(found.items()))


def is_of_a_model(path: str) -> bool:
    """Whether a path in a repository is that of a voice model's description or weights."""
    hidden = any(part.startswith(".") for part in path.split("/"))
    return path.startswith(PLACES) and path.endswith(SUFFIXES) and not hidden


def describe(folder: Path, name: str) -> HubConfig:
    """What `config.json` says of a voice model's folder.

    Raises:
        RequestError: if its experts are damaged.
    """
    infos = list(check_banks(folder / EXPERTS).values())
    return HubConfig(
        name=name,
        encoder_digest=infos[0].encoder_digest,
        window_seconds=infos[0].window_seconds,
        targets=tuple(target for info in infos for target in info.target_spec.ids),
        files={path: file.stat().st_size for path, file in voice_files(folder).items()},
    )


def read_config(text: str, where: object, files: Iterable[str] = ()) -> HubConfig:
    """Read `config.json`.

    Args:
        text: its content.
        where: the repository or folder.
        files: what else is there, for the message.

    Raises:
        RequestError: if it is not one of ours, of a newer version, or damaged.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise RequestError("the model's config.json cannot be read", where=where, found=error) from error
    told = content if isinstance(content, dict) else {}
    if told.get("library_name") != LIBRARY or told.get("model_type") != "emonet-voice":
        made_for = told.get("library_name") or told.get("model_type") or "something else"
        raise not_ours(where, [f"a {CONFIG} for {made_for}", *(path for path in files if path != CONFIG)])
    if told.get("format_version") != VERSION:
        raise RequestError(
            "the model is of a form that this version does not know",
            where=where,
            expected=f"format_version {VERSION}",
            found=f"format_version {told.get('format_version')}, written by emonet {told.get('emonet', '?')}",
            hint="use a newer emonet",
        )
    try:
        return HubConfig.model_validate(content)
    except ValidationError as error:
        raise RequestError("the model's config.json is damaged", where=where, found=error) from error


def not_ours(where: object, files: Iterable[str]) -> RequestError:
    """What to say where there is no emonet model."""
    return RequestError(
        "this is no emonet model",
        where=where,
        expected=f"{CONFIG} with library_name {LIBRARY}, and the folders {ENCODER}/ and {EXPERTS}/",
        found=shortened(list(files), 6) or "no files",
        hint="emonet push MODEL ORG/NAME makes such a repository",
    )


def plugged(where: object) -> RequestError:
    """What to say of a model that only a plug-in can run, with an argument of whoever made it."""
    return RequestError(
        "the model's encoder is a plug-in's, whose weights do not travel",
        where=where,
        found=PLUGGED,
        hint="give its folder away beside the plug-in; --model FOLDER opens it",
    )


def check_whole(folder: Path, config: HubConfig, where: object) -> None:
    """Check that all files are there, and none was cut short.

    Raises:
        RequestError: with all that is wrong.
    """
    sizes = {path: (folder / path).stat().st_size for path in config.files if (folder / path).is_file()}
    lacking = [f"{path} is missing" for path in config.files if path not in sizes]
    lacking += [
        f"{path} has {size:,} of {config.files[path]:,} bytes"
        for path, size in sizes.items()
        if size != config.files[path]
    ]
    outside = [path for path in config.files if ".." in path.split("/") or not is_of_a_model(path)]
    lacking += [f"{path} is no file of a voice model" for path in outside]
    if lacking:
        raise RequestError(
            "the model is not whole",
            where=where,
            expected=f"{len(config.files)} files, as {CONFIG} says",
            found=shortened(lacking, 5),
            hint="download it again, or ask whoever uploaded it",
        )
