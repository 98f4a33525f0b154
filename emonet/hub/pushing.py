"""Pushing a voice model to the hub: one commit with card, description and weights, over nothing that is another's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emonet.errors import RequestError, shortened
from emonet.hub.cards import card_of, hub_card, licence_of, local_paths, title_of
from emonet.hub.failures import TIMEOUT, Say, explained, patiently, status_of
from emonet.hub.form import CONFIG, PLUGGED, HubConfig, describe, is_of_a_model, plugged, read_config, voice_files
from emonet.registry import CARD
from emonet.version import __version__

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.hf_api import ModelInfo

_BARE = (".gitattributes", CARD)  # files of a repository that was just made


@dataclass(frozen=True)
class Upload:
    """What is to stand in a repository.

    Args:
        name: `ORG/NAME`.
        config: what `config.json` says.
        card: the model card.
        licence: that the card names, by its id; None where it names none.
        files: path in the repository -> file.
        local_paths: paths of this machine that the card names.
    """

    name: str
    config: HubConfig
    card: str
    licence: str | None
    files: dict[str, Path]
    local_paths: Sequence[str]

    @property
    def texts(self) -> dict[str, bytes]:
        """Path in the repository -> content of what is written for it."""
        return {CARD: self.card.encode(), CONFIG: (self.config.model_dump_json(indent=2) + "\n").encode()}

    @property
    def sizes(self) -> dict[str, int]:
        """Path in the repository -> size (bytes)."""
        return {path: len(content) for path, content in self.texts.items()} | dict(self.config.files)


def prepare(folder: Path, name: str, licence: str | None = None) -> Upload:
    """Make ready what `push` uploads; nobody is asked and nothing is sent.

    Args:
        folder: of the voice model.
        name: `ORG/NAME`.
        licence: its id on the hub; None takes what the model's card says.

    Raises:
        RequestError: if the name or the licence cannot be one, the model is damaged, or its encoder is a plug-in's.
    """
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    if name.count("/") != 1:
        raise RequestError("this is no name of a model on the hub", expected="ORG/NAME", found=name)
    with explained(name):
        validate_repo_id(name)
    if (folder / PLUGGED).exists():
        raise plugged(folder)
    own = card_of(folder)
    card = hub_card(own, name, licence)
    return Upload(name, describe(folder, title_of(own)), card, licence_of(card), voice_files(folder), local_paths(card))


def push(
    upload: Upload,
    *,
    private: bool = False,
    revision: str | None = None,
    replace: Callable[[str], bool],
    say: Say,
) -> str:
    """Upload a model in one commit, or nothing; the repository and its branch are made where they are not there.

    Args:
        upload: as `prepare` makes it.
        private: whether a repository that is made is private.
        revision: a branch; by default main.
        replace: asked with a question whether another model that is there is to be replaced.
        say: told of waits.

    Returns:
        The commit.

    Raises:
        RequestError: if there is no token, it is not enough, or another model is there and stays.
        EmonetError: if the hub does not answer.
    """
    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        hint = "hf auth login, or export HF_TOKEN=...: https://huggingface.co/settings/tokens"
        raise RequestError("the hub wants a token that may write", where=upload.name, hint=hint)
    api = HfApi(library_name="emonet", library_version=__version__)
    with explained(upload.name, revision):
        there, branches = _ready(api, upload.name, revision, private=private, say=say)
        former = _settle(upload, there, replace, say)
        if not branches:
            patiently(
                lambda: api.create_branch(upload.name, branch=str(revision), revision=there.sha, exist_ok=True), say
            )
        added = _added(upload)
        gone = _gone(upload, there, former)
        try:
            done = patiently(
                lambda: api.create_commit(
                    upload.name,
                    [*added, *gone],
                    commit_message=f"{upload.config.name}, by emonet {__version__}",
                    revision=revision,
                    parent_commit=there.sha,
                ),
                say,
            )
        except Exception as error:  # the hub's library changes its errors
            # Of a busy hub, a commit that was asked for again may have gone through the first time.
            head = _head(api, upload.name, revision, added, say) if status_of(error) in (409, 412) else None
            if head is None:
                raise
            return head
        return str(done.oid)


def _ready(api: HfApi, name: str, revision: str | None, *, private: bool, say: Say) -> tuple[ModelInfo, bool]:
    """The repository, which is made where it is not there, and whether it has the branch; else main's state."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    def look(revision: str | None = None) -> ModelInfo:
        return patiently(lambda: api.model_info(name, revision=revision, timeout=TIMEOUT), say)

    try:
        found = look()
    except RepositoryNotFoundError:
        patiently(lambda: api.create_repo(name, private=private, exist_ok=True), say)
        found = look()
    else:
        if private and not found.private:
            what = "the repository is there already, and everybody can read it"
            raise RequestError(what, where=name, hint="leave out --private, or make it private on its settings page")
    if revision is None:
        return found, True
    try:
        return look(revision), True
    except RevisionNotFoundError:
        return found, False


def _settle(upload: Upload, there: ModelInfo, replace: Callable[[str], bool], say: Say) -> Collection[str]:
    """Ask before another model is replaced.

    Returns:
        The files of the emonet model that is there.

    Raises:
        RequestError: if it stays.
    """
    other, former = _held(upload, there, say)
    if other is not None and not replace(f"{upload.name} holds {other}. Replace it by {upload.config.name!r}?"):
        hint = "--force replaces it (its commits stay in the repository's history); or give another name"
        raise RequestError("another model is there, and it stays", where=upload.name, found=other, hint=hint)
    return former


def _held(upload: Upload, there: ModelInfo, say: Say) -> tuple[str | None, Collection[str]]:
    """What a repository holds, if that is not an earlier state of the same model; and the files of its emonet model."""
    from huggingface_hub import hf_hub_download

    files = _paths(there)
    if set(files) <= set(_BARE):
        return None, ()
    held = shortened([path for path in files if path not in _BARE], 4)
    if CONFIG not in files:
        return held, ()
    path = patiently(lambda: hf_hub_download(upload.name, CONFIG, revision=there.sha, etag_timeout=TIMEOUT), say)
    try:
        former = read_config(Path(path).read_text("utf-8"), upload.name, files)
    except RequestError as error:
        return f"{held} ({error.what})", ()
    other = None
    if former.name != upload.config.name:
        other = f"the emonet model {former.name!r}"
    elif set(former.targets) - set(upload.config.targets):
        other = f"a model of the same name with {len(former.targets)} targets, not {len(upload.config.targets)}"
    return other, former.files


def _added(upload: Upload) -> list[CommitOperationAdd]:
    """All files of the model."""
    from huggingface_hub import CommitOperationAdd

    added = [CommitOperationAdd(path, content) for path, content in upload.texts.items()]
    return added + [CommitOperationAdd(path, str(file)) for path, file in upload.files.items()]


def _gone(upload: Upload, there: ModelInfo, former: Collection[str]) -> list[CommitOperationDelete]:
    """The files of an earlier state that the model has no more; what others put beside them stays."""
    from huggingface_hub import CommitOperationDelete

    gone = [path for path in _paths(there) if path in former and path not in upload.files and is_of_a_model(path)]
    return [CommitOperationDelete(path) for path in gone]


def _head(api: HfApi, name: str, revision: str | None, added: Sequence[CommitOperationAdd], say: Say) -> str | None:
    """The commit at the head of a branch, if all that was to be uploaded stands there."""
    from huggingface_hub.utils.sha import git_hash

    head = patiently(lambda: api.model_info(name, revision=revision, files_metadata=True, timeout=TIMEOUT), say)
    there = {one.rfilename: one for one in head.siblings or ()}
    for one in added:
        found = there.get(one.path_in_repo)
        if found is None:
            return None
        if found.lfs is not None:
            same = found.lfs.sha256 == one.upload_info.sha256.hex()
        else:
            with one.as_file() as file:
                same = found.blob_id == git_hash(file.read())
        if not same:
            return None
    return head.sha


def _paths(there: ModelInfo) -> list[str]:
    return [one.rfilename for one in there.siblings or ()]
