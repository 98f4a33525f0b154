"""Where pretrained weights are: a folder, or a model on the Hugging Face hub, as it is or at a revision of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from emonet.encoders.layers import NarrowError
from emonet.errors import EmonetError, RequestError
from emonet.schema import digest

TIMEOUT = 10.0  # seconds; transformers alone would retry for half a minute before it says that there is no network
_FOLDER_HINT = (
    "give a folder instead: download the model where there is a network, copy it here, and name it with "
    "--extraction.captioner FOLDER (make: ENCODER=FOLDER) or --captioner.model FOLDER"
)
_EXPECTED = "a folder, a hub id such as openai/whisper-small or openai/whisper-small@REVISION, or scratch:SIZE"
WHISPER, SELF_SUPERVISED = ("whisper",), ("wav2vec2", "hubert", "wavlm", "data2vec-audio")
ENCODERS = (*WHISPER, *SELF_SUPERVISED)
"""The `model_type` of what encoders are read from."""
_TEXTS = ("*.json", "*.txt", "*.jinja")  # configurations and tokenizers
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # in the order in which transformers looks for them
_INDEX = ".index.json"  # ends the name of a list of weights in several files


def locate(source: str, kinds: Sequence[str] = WHISPER) -> str:
    """The folder of a captioner, or encoder; a hub model's own in the hub's cache, fetched if it is not there.

    A model that was downloaded before is taken as it was: it needs no network, and does not change under a store that
    was made with it. `NAME@REVISION` takes a tag, branch or commit.

    Args:
        source: a folder, or a hub id.
        kinds: the `model_type` that it may be of.

    Raises:
        RequestError: if there is no such folder, hub model or revision, or the folder holds no model of these kinds.
        EmonetError: if the hub cannot be reached and the model was not downloaded before.
    """
    path = Path(source).expanduser()
    if source and path.is_dir():
        _check_folder(path, kinds)
        return str(path)
    name, revision = hub_name(source)
    there = _cached(name, revision) or _fetched(name, revision)
    _check_folder(there, kinds)
    return str(there)


def too_long(source: str, heard: float, wanted: float, flag: str) -> NarrowError:
    """What to say where a Whisper hears less than the window that is asked for.

    Args:
        source: the Whisper.
        heard: what its positions hold (seconds).
        wanted: the window (seconds).
        flag: that sets it.
    """
    return NarrowError(
        "the window is longer than this Whisper hears",
        has=f"a window of up to {heard:g} s",
        where=source,
        expected=f"up to {heard:g} s",
        found=f"{wanted:g} s",
        hint=f"{flag} {heard:g}",
    )


def is_on_hub(source: str) -> bool:
    """Whether a captioner is named by a hub id, not a folder or `scratch:SIZE`."""
    return bool(source) and ":" not in source and not Path(source).expanduser().is_dir()


def hub_name(source: str) -> tuple[str, str | None]:
    """Name and revision of a hub id.

    Raises:
        RequestError: if it is none.
    """
    path = Path(source).expanduser()
    name, at, revision = source.partition("@")
    is_path = path.exists() or path.is_absolute() or source.startswith((".", "~"))
    if is_path or name.count("/") != 1 or (at and not revision):
        raise RequestError(
            "there is no such captioner",
            where=source or "an empty name",
            expected=_EXPECTED,
            found="a file" if source and path.exists() else "no such folder",
        )
    return name, revision or None


def weights_identity(source: str) -> str:
    """What tells the weights of `source` from others without loading them.

    Args:
        source: a folder, a hub id, or `scratch:SIZE`, which has no weights and stays as it is.

    Returns:
        SHA-256 over the weights' files (about a second per GB): the same for a hub model and for a folder with it.

    Raises:
        RequestError: if there is no such folder, hub model or revision, or a file with weights is missing.
        EmonetError: if the hub cannot be reached and the model was not downloaded before.
    """
    folder = Path(source).expanduser()
    if not source or (":" in source and not folder.is_dir()):
        return source
    if is_on_hub(source):
        name, revision = hub_name(source)
        there = _cached(name, revision)
        if there is None and (digests := _digests_on_hub(name, revision)):
            return _identity(digests)  # before gigabytes are fetched
        folder = there or Path(locate(source, ENCODERS))
    try:
        return _identity([bytes.fromhex(file_digest(path)) for path in _weights(folder)])
    except FileNotFoundError as error:
        found = Path(str(error.filename)).name
        raise RequestError("a file with weights is missing", where=folder, expected=found) from error


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hex, computed once as long as the file is not changed (about a second per GB)."""
    state = path.stat()
    return _digest(path.resolve(), state.st_mtime_ns, state.st_size)


def folder_digest(folder: Path) -> str:
    """SHA-256 in hex over names and contents of all files below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest([[str(path.relative_to(folder)), file_digest(path)] for path in files])


def _identity(digests: Sequence[bytes]) -> str:
    return hashlib.sha256(b"".join(digests)).hexdigest()


@lru_cache(maxsize=1024)
def _digest(path: Path, *state: int) -> str:
    del state
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _weights(folder: Path) -> list[Path]:
    """The files of a folder with the weights that are loaded.

    Raises:
        RequestError: if the list of them is damaged.
    """
    files = [path.name for path in folder.iterdir() if path.is_file()]
    try:
        return [folder / name for name in _loaded(files, lambda index: folder / index)]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise RequestError("the list of files with weights is damaged", where=folder, found=str(error)) from error


def _loaded(files: Sequence[str], read: Callable[[str], Path]) -> list[str]:
    """Which files hold the weights that are loaded, sorted: one, or those that its index names.

    Args:
        files: names in a folder or in a model's on the hub.
        read: where an index can be read, by its name.
    """
    for alone in _WEIGHTS:
        if alone in files:
            return [alone]
        if alone + _INDEX in files:
            return sorted(set(json.loads(read(alone + _INDEX).read_text("utf-8"))["weight_map"].values()))
    return []


def model_type(path: Path) -> str:
    """What a folder in Hugging Face's form holds, as its config.json says, or why it does not."""
    try:
        found: object = json.loads((path / "config.json").read_text("utf-8")).get("model_type", "no model_type")
    except FileNotFoundError:
        return "no config.json"
    except (OSError, ValueError, AttributeError) as error:
        return f"config.json: {error}"
    return str(found)


def _check_folder(path: Path, kinds: Sequence[str]) -> None:
    found = model_type(path)
    if found in kinds:
        return
    if kinds == WHISPER:
        raise RequestError(
            "the folder is not a captioner",
            where=path,
            expected="a Hugging Face folder of a Whisper (config.json with model_type whisper, and weights)",
            found=found,
        )
    raise RequestError(
        "the folder is not a captioner, nor of another encoder that can be used",
        where=path,
        expected=f"a Hugging Face folder (config.json and weights) with a model_type of {', '.join(kinds)}",
        found=found,
        hint="a plug-in brings any other: docs/plugins.md",
    )


def _cached(name: str, revision: str | None) -> Path | None:
    """The folder of a model that was downloaded before with all its weights."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError as error:
        raise _no_model(name, revision, error) from error
    folder = Path(config).parent if isinstance(config, str) else None
    return folder if folder is not None and _is_whole(folder) else None


def _is_whole(folder: Path) -> bool:
    found = _weights(folder)
    return bool(found) and all(path.is_file() for path in found)


def _fetched(name: str, revision: str | None) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    with _explained(name, revision):
        info = HfApi().model_info(name, revision=revision, timeout=TIMEOUT)
        files = [one.rfilename for one in info.siblings or ()]
        # By name of the revision, not by commit: the cache then knows the one by the other without a network.
        wanted = [*_TEXTS, *_loaded(files, partial(_index, name, revision))]
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted, etag_timeout=TIMEOUT))


def _digests_on_hub(name: str, revision: str | None) -> list[bytes]:
    """SHA-256 of each of a model's files with weights, as the hub tells it; none where it does not for all."""
    from huggingface_hub import HfApi

    with _explained(name, revision):
        info = HfApi().model_info(name, revision=revision, timeout=TIMEOUT, files_metadata=True)
        told: dict[str, Any] = {one.rfilename: one.lfs for one in info.siblings or ()}
        kept = [told.get(file) for file in _loaded(list(told), partial(_index, name, revision))]
    known = [bytes.fromhex(one.sha256) for one in kept if one is not None]
    return known if len(known) == len(kept) else []


def _index(name: str, revision: str | None, index: str) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(name, index, revision=revision, etag_timeout=TIMEOUT))


@contextmanager
def _explained(name: str, revision: str | None) -> Iterator[None]:
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        yield
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise _no_model(name, revision, error) from error
    except Exception as error:  # the hub's client and its HTTP library change their errors
        shown = name if revision is None else f"{name}@{revision}"
        raise EmonetError(
            f"the model {shown!r} cannot be fetched: the hub does not answer",
            where="huggingface.co",
            found=_first_line(error),
            hint=_FOLDER_HINT,
        ) from error


def _no_model(name: str, revision: str | None, error: Exception) -> RequestError:
    at = "" if revision is None else f", or it has no revision {revision!r}"
    return RequestError(
        f"there is no model {name!r} on the hub{at}, or it is private",
        found=_first_line(error),
        hint=f"give {_EXPECTED}",
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
