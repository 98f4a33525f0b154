"""Versions of a registered model: which of them is champion or candidate, promotion, rollback, tags.

`@champion` moves by `promote` and back by `rollback`. A version remembers whom it replaced in its tag
`former_champion`: the versions that were champion before it, the latest first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import AwareDatetime

from emonet.errors import EmonetError, RequestError
from emonet.registry.artifacts import Files, files_of
from emonet.registry.models import CHAMPION, require_registry
from emonet.schema import Schema
from emonet.tracking import Run, Server, ServerError, answering, client, hidden, require_writable, sqlite_path

FORMER = "former_champion"
PROMOTED = "promoted"
LOCK = ".registry.lock"
MODEL_ID = re.compile(r"/(m-[0-9a-f]{32})(?:/|$)")  # where a logged model's files lie; databases keep no other link
_RUN_ID = re.compile(r"[0-9a-f]{32}")
_NUMBER, _WORD = re.compile(r"@?([0-9]+)"), re.compile(r"[A-Za-z][\w.-]*")


class ChampionMovedError(EmonetError):
    """Another version is the champion by now; `now` is its number, None if there is none."""

    def __init__(self, what: str, *, now: int | None, **parts: Any) -> None:
        super().__init__(what, found="none" if now is None else f"version {now}", **parts)
        self.now = now


class Version(Schema):
    """A version of a registered model, as the registry tells it."""

    name: str
    """The registered model."""
    version: int
    """Counted from 1."""
    aliases: tuple[str, ...]
    """That it bears."""
    experiment: str
    """Name of the emonet experiment that trained it; empty where its run is gone."""
    created: AwareDatetime
    """When it was registered (UTC)."""
    run_id: str
    """The MLflow run that logged it."""
    model_id: str | None
    """MLflow's id of the logged model; captioners have none."""
    source: str
    """URI of its files."""
    tags: dict[str, str]
    """What was said of it: figures, corpus, store, code."""

    @property
    def uri(self) -> str:
        """`models:/NAME/VERSION`."""
        return f"models:/{self.name}/{self.version}"

    @property
    def former(self) -> tuple[int, ...]:
        """The versions that were champion before it, the latest first."""
        return tuple(int(part) for part in self.tags.get(FORMER, "").split(",") if part.strip().isdigit())


def versions_of(name: str, uri: str) -> tuple[Version, ...]:
    """All versions of a registered model, the newest first; none where there is no such model.

    Raises:
        RequestError: if there is no registry.
        EmonetError: if it cannot be used.
    """
    require_registry(uri)
    with answering(uri):
        server = client(uri)
        aliases = _aliases(server, name)
        found = [_version(server, one, aliases) for one in server.search_model_versions(f"name='{name}'")]
    return tuple(sorted(found, key=lambda one: -one.version))


def named_version(given: str, name: str) -> int | str | None:
    """The number or alias that was typed: `3`, `champion`, `@champion`, `models:/NAME/3` or `models:/NAME@champion`.

    Args:
        given: what was typed.
        name: of the registered model.

    Returns:
        None where it is none of these: an MLflow run's id, a path, another model.
    """
    if _RUN_ID.fullmatch(given):
        return None
    which = given.removeprefix(f"models:/{name}")
    if which != given and which.startswith("/"):
        which = which[1:] if _NUMBER.fullmatch(which[1:]) else which
    if found := _NUMBER.fullmatch(which):
        return int(found[1])
    if which.startswith("@") and "/" not in which:
        return which[1:] or None
    return which if which == given and _WORD.fullmatch(which) else None


def version_of(name: str, which: int | str, uri: str) -> Version:
    """A version by its number or alias.

    Raises:
        RequestError: if there is none; lists what there is.
        EmonetError: if the registry cannot be used.
    """
    there = versions_of(name, uri)
    for one in there:
        if one.version == which or which in one.aliases:
            return one
    shown = ", ".join(" @".join([str(one.version), *one.aliases]) for one in there[:8])
    raise RequestError(
        f"{name} has no version {which}" if isinstance(which, int) else f"no version of {name} is @{which}",
        where=hidden(uri),
        found=f"version {shown}" if there else "no version at all",
        hint="emonet registry list" if there else "emonet pretrain, extract and heads train and register models",
    )


def of_run(run_id: str, name: str, uri: str) -> Version | None:
    """The newest version that a run has registered, or None."""
    return next((one for one in versions_of(name, uri) if one.run_id == run_id), None)


def logged_by(run_id: str, uri: str) -> str:
    """URI of the model that a run has logged without registering it.

    Raises:
        RequestError: if there is no such run, or it has logged none.
        EmonetError: if the registry cannot be used.
    """
    require_registry(uri)
    with answering(uri):
        try:
            outputs = client(uri).get_run(run_id).outputs
        except ServerError as error:
            raise RequestError(
                "there is no such run", where=hidden(uri), found=run_id, hint="emonet ui shows the runs"
            ) from error
    models = outputs.model_outputs if outputs else []
    if not models:
        raise RequestError(
            "this run has logged no voice model",
            where=hidden(uri),
            found=run_id,
            hint="emonet registry list shows what is there",
        )
    return f"models:/{models[-1].model_id}"


def find_version(name: str, alias: str, uri: str) -> Version | None:
    """The version of a registered model that bears an alias, or None.

    Raises:
        RequestError: if there is no registry.
        EmonetError: if it cannot be used.
    """
    return next((one for one in versions_of(name, uri) if alias in one.aliases), None)


def version_files(version: Version, uri: str) -> Files:
    """Where a version's files are, and how large; without a size where they are not found.

    Raises:
        EmonetError: if the registry cannot be used.
    """
    with answering(uri):
        return files_of(version.uri, uri)


def metrics_of(version: Version, uri: str) -> dict[str, float]:
    """The latest metrics that were logged to the version's model, by key."""
    if version.model_id is None:
        return {}
    with answering(uri):
        logged = sorted(client(uri).get_logged_model(version.model_id).metrics or (), key=lambda one: one.timestamp)
    return {f"{one.key} on {one.dataset_name}" if one.dataset_name else one.key: one.value for one in logged}


def promote(version: Version, uri: str, runs: Path, *, expected: int | None, why: str) -> int | None:
    """Make a version the champion, if the champion is still the one that it was compared with.

    Args:
        version: the new champion.
        uri: of the registry.
        runs: folder of the lock that promotions of this machine share.
        expected: the version that must be champion now; None if there must be none.
        why: what the promotion goes by, for the tag `promoted`.

    Returns:
        The former champion.

    Raises:
        ChampionMovedError: if another version is champion now.
        EmonetError: if the registry cannot be used.
        RequestError: if it is champion already.
    """
    with answering(uri), one_at_a_time(uri, runs):
        current = find_version(version.name, CHAMPION, uri)
        found = None if current is None else current.version
        if found == version.version:
            raise RequestError(f"version {found} of {version.name} is @{CHAMPION} already", where=hidden(uri))
        if found != expected:
            raise ChampionMovedError(
                f"@{CHAMPION} has moved meanwhile; nothing was changed",
                where=f"{version.name} in {hidden(uri)}",
                expected=f"version {expected}",
                now=found,
                hint="compare with the new champion: emonet compare champion ...",
            )
        chain = (current.version, *current.former) if current else ()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        # The tag comes first: a kill in between leaves a tag too many, never a champion that cannot be undone.
        set_tags(uri, version, {FORMER: ",".join(map(str, chain)), PROMOTED: f"{now} {why}"})
        client(uri).set_registered_model_alias(version.name, CHAMPION, str(version.version))
        return found


def rollback(name: str, uri: str, runs: Path) -> tuple[Version, Version]:
    """Undo the last promotion.

    Args:
        name: of the registered model.
        uri: of the registry.
        runs: folder of the lock that promotions of this machine share.

    Returns:
        The version that was champion, and the one that is champion again.

    Raises:
        RequestError: if there is no champion, it replaced nobody, or the former champion was deleted or its
            files are not found.
        EmonetError: if the registry cannot be used.
    """
    with answering(uri), one_at_a_time(uri, runs):
        current = version_of(name, CHAMPION, uri)
        if not current.former:
            raise RequestError(
                f"version {current.version} of {name} replaced no other champion: there is nothing to undo",
                where=hidden(uri),
                hint="emonet registry promote VERSION makes another one the champion",
            )
        former = next((one for one in versions_of(name, uri) if one.version == current.former[0]), None)
        if former is None or files_of(former.uri, uri).size is None:
            what = "was deleted" if former is None else "cannot be used: its files are not found"
            raise RequestError(
                f"the former champion, version {current.former[0]} of {name}, {what}",
                where=hidden(uri),
                hint="emonet registry promote VERSION makes another one the champion",
            )
        server = client(uri)
        server.set_registered_model_alias(name, CHAMPION, str(former.version))
        # What is left of the list is the former champion's own; this version may be promoted again.
        set_tags(uri, former, {FORMER: ",".join(map(str, current.former[1:]))})
        for key in (FORMER, PROMOTED):
            server.delete_model_version_tag(name, str(current.version), key)
        return current, former


def tell_metrics(version: Version, by: Run, values: Mapping[str, float], dataset: tuple[str, str]) -> None:
    """Log metrics to a version's model and to the run that made it: MLflow's pages compare versions by either.

    Args:
        version: of a voice model.
        by: the run that found the metrics; the model gets them from it where its own run was deleted.
        values: by key.
        dataset: name and digest of the clips behind them.

    Raises:
        EmonetError: if the registry cannot be used.
    """
    if version.model_id is None:
        return
    with answering(by.uri):
        own = Run(version.run_id, by.client, by.uri)
        (own if _is_active(by.client, version.run_id) else by).model_metrics(version.model_id, values, dataset)


def tag_version(version: Version, uri: str, values: Mapping[str, str]) -> None:
    """Set tags of a version.

    Raises:
        EmonetError: if the registry cannot be used.
    """
    with answering(uri):
        set_tags(uri, version, values)


def set_tags(uri: str, version: Version, values: Mapping[str, str]) -> None:
    """Set tags of a version; errors of MLflow and of what it uses pass."""
    server = client(uri)
    for key, value in values.items():
        server.set_model_version_tag(version.name, str(version.version), key, value)


def _version(server: Server, told: Any, aliases: Mapping[int, Sequence[str]]) -> Version:
    models = MODEL_ID.findall(str(told.source))
    return Version(
        name=told.name,
        version=int(told.version),
        aliases=tuple(aliases.get(int(told.version), ())),
        experiment=told.tags.get("experiment") or _experiment(server, str(told.run_id)),
        created=datetime.fromtimestamp(told.creation_timestamp / 1000, UTC),
        run_id=str(told.run_id or ""),
        model_id=models[-1] if models else None,
        source=str(told.source),
        tags=dict(told.tags),
    )


def _experiment(server: Server, run_id: str) -> str:
    try:
        return str(server.get_experiment(server.get_run(run_id).info.experiment_id).name)
    except ServerError:
        return ""


def _is_active(server: Server, run_id: str) -> bool:
    try:
        return bool(server.get_run(run_id).info.lifecycle_stage == "active")
    except ServerError:
        return False


def _aliases(server: Server, name: str) -> dict[int, list[str]]:
    try:
        found = server.get_registered_model(name).aliases
    except ServerError as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise
    by_version: dict[int, list[str]] = {}
    for alias in sorted(found):
        by_version.setdefault(int(found[alias]), []).append(alias)
    return by_version


@contextmanager
def one_at_a_time(uri: str, runs: Path) -> Iterator[None]:
    """One change of the registry at a time on this machine.

    Raises:
        RequestError: if it can only be read.
    """
    if (database := sqlite_path(uri)) is not None:
        require_writable(database)
    runs.mkdir(parents=True, exist_ok=True)
    with FileLock(runs / LOCK):
        yield
