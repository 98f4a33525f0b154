"""Where pretrained weights are: a folder, or a model on the Hugging Face hub that can be reached."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from emonet.errors import EmonetError, RequestError

TIMEOUT = 10.0  # seconds; transformers alone would retry for half a minute before it says that there is no network
_FOLDER_HINT = "give a folder instead: download the model where there is a network and copy it here"


def locate(source: str) -> str:
    """Check that `source` can be opened, and return it as `from_pretrained` takes it.

    Args:
        source: a folder, or a hub id such as `openai/whisper-small`.

    Raises:
        RequestError: if there is no such folder or hub model, or the folder holds no Whisper.
        EmonetError: if the hub cannot be reached and the model was not downloaded before.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        _check_folder(path)
        return str(path)
    if path.exists() or path.is_absolute() or source.startswith((".", "~")) or source.count("/") != 1:
        raise RequestError(
            "there is no such captioner",
            where=source,
            expected="a folder, a hub id such as openai/whisper-small, or scratch:SIZE",
            found="a file" if path.exists() else "no such folder",
        )
    _check_hub(source)
    return source


def _check_folder(path: Path) -> None:
    config = path / "config.json"
    try:
        found = json.loads(config.read_text("utf-8")).get("model_type", "no model_type")
    except FileNotFoundError:
        found = "no config.json"
    except (OSError, ValueError, AttributeError) as error:
        found = f"config.json: {error}"
    if found != "whisper":
        raise RequestError(
            "the folder is not a captioner",
            where=path,
            expected="a Hugging Face folder of a Whisper (config.json with model_type whisper, and weights)",
            found=found,
        )


def _check_hub(source: str) -> None:
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        if isinstance(try_to_load_from_cache(source, "config.json"), str):
            return  # downloaded before; transformers finds it without a network
        HfApi().model_info(source, timeout=TIMEOUT)
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise RequestError(
            f"there is no model {source!r} on the hub, or it is private",
            found=str(error).strip().splitlines()[0],
            hint="give a folder, a hub id such as openai/whisper-small, or scratch:SIZE",
        ) from error
    except Exception as error:  # the hub's client and its HTTP library change their errors
        raise EmonetError(
            f"the model {source!r} cannot be fetched: the hub does not answer",
            where="huggingface.co",
            found=str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__,
            hint=_FOLDER_HINT,
        ) from error


def weights_identity(source: str) -> str:
    """What tells the weights of `source` from others without loading them.

    Args:
        source: a folder, or a hub id.

    Returns:
        SHA-256 over the folder's safetensors files (about a second per GB); a hub id stays as it is.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return source
    weights = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            weights.update(hashlib.file_digest(file, "sha256").digest())
    return weights.hexdigest()
