"""Fetching a voice model from the hub: looked at before it is downloaded, and used from the cache without a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from emonet.errors import RequestError
from emonet.hub.failures import TIMEOUT, AwayError, Say, explained, patiently
from emonet.hub.form import CONFIG, PLACES, PLUGGED, SUFFIXES, check_whole, not_ours, plugged, read_config

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo


def fetch_model(name: str, revision: str | None = None, *, say: Say) -> Path:
    """The folder of a voice model on the hub, in the hub's own cache; or a local folder of that form.

    Only descriptions and weights (safetensors) are downloaded: nothing that runs when it is read.

    Args:
        name: `ORG/NAME`, or a folder.
        revision: branch, tag or commit; by default main.
        say: told if a copy that was downloaded before is used, and of waits.

    Raises:
        RequestError: if there is no such model or revision, or it is not one of emonet's, or not whole.
        EmonetError: if the hub does not answer, and there is no copy; or the disk takes no more.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _local(folder, revision)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        what = "there is no such folder, and this is no name of a model on the hub"
        raise RequestError(what, where=name, expected="a folder, or ORG/NAME")
    return fetch_from_hub(name, revision, say=say)


def fetch_from_hub(name: str, revision: str | None = None, *, say: Say) -> Path:
    """As `fetch_model`, of a model on the hub only: a local folder of that name is not looked at.

    Args:
        name: `ORG/NAME`.
        revision: as in `fetch_model`.
        say: as in `fetch_model`.

    Raises:
        RequestError: as in `fetch_model`.
        EmonetError: if the hub does not answer, and there is no copy; or the disk takes no more.
    """
    try:
        return _fetched(name, revision, say)
    except AwayError as away:
        copy = _copy(name, revision)
        if copy is None:
            raise
        try:
            checked = _checked(copy, name)
        except RequestError as partial:
            what = f"{away.what}, and of the model only a part was downloaded so far"
            raise AwayError(what, where=name, found=partial.what, hint="the same again: what is there stays") from away
        say(f"{away.what}: the copy of {name} that was downloaded before is used, commit {copy.name[:12]}")
        return checked


def _local(folder: Path, revision: str | None) -> Path:
    if revision is not None:
        raise RequestError("a folder has no revisions", where=folder, found=f"revision {revision!r}")
    if not (folder / CONFIG).is_file():
        raise not_ours(folder, sorted(path.name for path in folder.iterdir()))
    return _checked(folder, folder)


def _fetched(name: str, revision: str | None, say: Say) -> Path:
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download

    with explained(name, revision):
        info: ModelInfo = patiently(lambda: HfApi().model_info(name, revision=revision, timeout=TIMEOUT), say)
        files = [one.rfilename for one in info.siblings or ()]
        if CONFIG not in files:
            raise not_ours(name, files)
        if PLUGGED in files:
            raise plugged(name)
        path = patiently(lambda: hf_hub_download(name, CONFIG, revision=info.sha, etag_timeout=TIMEOUT), say)
        read_config(Path(path).read_text("utf-8"), name, files)
        wanted = [CONFIG, "*.md", *(f"{place}*{suffix}" for place in PLACES for suffix in SUFFIXES)]
        patiently(lambda: snapshot_download(name, revision=info.sha, allow_patterns=wanted, etag_timeout=TIMEOUT), say)
        folder = _checked(Path(path).parent, name)
        # By the revision's name only now: without a network the cache takes the revision for what it was until then.
        patiently(lambda: hf_hub_download(name, CONFIG, revision=revision, etag_timeout=TIMEOUT), say)
    return folder


def _copy(name: str, revision: str | None) -> Path | None:
    """What was downloaded before, if anything."""
    from huggingface_hub import try_to_load_from_cache

    with explained(name, revision):
        path = try_to_load_from_cache(name, CONFIG, revision=revision)
    return Path(path).parent if isinstance(path, str) else None


def _checked(folder: Path, where: object) -> Path:
    if (folder / PLUGGED).exists():
        raise plugged(where)
    config = read_config((folder / CONFIG).read_text("utf-8"), where, [path.name for path in folder.iterdir()])
    check_whole(folder, config, where)
    return folder
