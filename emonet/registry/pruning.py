"""Pruning: which versions of a registered model nobody needs, and their deletion with their files."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from emonet.errors import RequestError
from emonet.registry.artifacts import Files, files_of, forget
from emonet.registry.artifacts import delete as delete_files
from emonet.registry.versions import MODEL_ID, Version, one_at_a_time, set_tags, version_files, version_of, versions_of
from emonet.tracking import Server, ServerError, answering, client, hidden

DELETED = "files_deleted"
"""Tag of a version whose files `delete_version` has begun to delete: nothing else tells them from files elsewhere."""


def prunable(name: str, uri: str, runs: Path, *, keep: int) -> tuple[tuple[Version, ...], tuple[Version, ...]]:
    """The versions that nobody needs: without an alias, no former champion, not among the newest.

    Args:
        name: of the registered model.
        uri: of the registry.
        runs: folder that files may be deleted from.
        keep: how many of the newest to keep (count); versions whose files are not found do not count.

    Returns:
        Those whose files are below `runs` or on the server, or were deleted by an earlier pruning; and those that
        nobody needs either, but which stay since their files are not found, or lie elsewhere.
    """
    there = versions_of(name, uri)
    former = {number for one in there for number in one.former}
    found = {one.version: version_files(one, uri) for one in there}
    newest = {one.version for one in [one for one in there if found[one.version].size is not None][:keep]}
    bare = [one for one in there if not one.aliases and one.version not in former | newest]
    goes = [one for one in bare if _may_go(one, found[one.version], runs)]
    return tuple(goes), tuple(one for one in bare if one not in goes)


def delete_version(version: Version, uri: str, runs: Path) -> None:
    """Delete a version and its files; the run that logged it stays, and files that another version has as well.

    Raises:
        RequestError: if it bears an alias by now, or was champion before the one that is, or its files are not found
            below `runs`: they may be elsewhere, and another registry's.
        EmonetError: if the registry or the files cannot be used.
    """
    with answering(uri), one_at_a_time(uri, runs):
        there = versions_of(version.name, uri)
        current = version_of(version.name, version.version, uri)
        if current.aliases or any(current.version in one.former for one in there):
            now = f"@{current.aliases[0]}" if current.aliases else "a former champion"
            raise RequestError(
                f"version {current.version} of {current.name} is {now} by now and is kept", where=hidden(uri)
            )
        found = files_of(current.uri, uri)
        if not _may_go(current, found, runs):
            raise RequestError(
                f"version {current.version} of {current.name} is kept: its files are not found in this project",
                where=found.where,
                expected=f"a folder below {runs.resolve()}",
            )
        server = client(uri)
        alone = _alone_with_its_files(server, current)
        if alone:  # files first: a kill in between leaves a version without files, which the next pruning removes
            set_tags(uri, current, {DELETED: datetime.now(UTC).isoformat(timespec="seconds")})
            delete_files(found, uri, runs)
        forget(runs, f"{current.name}-{current.version}")
        if alone and current.model_id is not None:
            with suppress(ServerError):  # deleted before
                server.delete_logged_model(current.model_id)
        server.delete_model_version(current.name, str(current.version))


def _may_go(version: Version, found: Files, runs: Path) -> bool:
    """Whether a version's files are there to be deleted, or were deleted by us; not found is not deleted."""
    return found.are_in(runs) and (found.size is not None or DELETED in version.tags)


def _alone_with_its_files(server: Server, version: Version) -> bool:
    """Whether no other version, of whatever name, has the same files: MLflow's pages register a model twice."""
    own = (version.name, version.version)
    others = [str(one.source) for one in server.search_model_versions("") if (one.name, int(one.version)) != own]
    return not any(_files(source) == _files(version.source) for source in others)


def _files(source: str) -> str:
    """What tells files apart: the logged model that they belong to, else where they lie."""
    models = MODEL_ID.findall(source)
    return str(models[-1]) if models else source
