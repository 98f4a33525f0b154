"""The verbs `registry list|show|promote|rollback|prune`: what is registered, which is champion, what may go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import AwareDatetime, Field
from rich.box import HORIZONTALS
from rich.table import Table

from emonet.errors import RequestError
from emonet.numbers import shown
from emonet.schema import Schema
from emonet.tracking import Lineage, hidden
from experiments.core import console

if TYPE_CHECKING:
    from emonet.registry import Version
    from experiments.arguments import (
        RegistryArguments,
        RegistryPromoteArguments,
        RegistryPruneArguments,
        RegistryRollbackArguments,
        RegistryShowArguments,
    )

CARD = "README.md"
_LOST = "[red]not found[/]"


class RegisteredVersion(Schema):
    """A version as the list shows it."""

    name: str
    """The registered model."""
    version: int
    """Counted from 1."""
    aliases: tuple[str, ...]
    """That it bears."""
    experiment: str
    """That trained it; empty where its run is gone."""
    corpus: str
    """That it was trained on, if the registry says so."""
    figures: dict[str, str]
    """Test figures of the run that registered it."""
    created: AwareDatetime
    """When it was registered (UTC)."""
    megabytes: float | None
    """Size of its files (MB); none where they are not found."""
    files: str
    """Where its files are, or should be: a path, or an URI on a server."""
    former: tuple[int, ...]
    """The versions that were champion before it, the latest first."""


class RegistryListResult(Schema):
    """What `emonet registry list` found."""

    registry: str
    """Its URI."""
    versions: tuple[RegisteredVersion, ...]
    """Of both models, the newest first."""


class RegistryShowResult(Schema):
    """All that is known of a version."""

    version: RegisteredVersion
    """As the list shows it."""
    lineage: Lineage | None
    """What it was trained on; none where that is not known or its files are not found."""
    tags: dict[str, str]
    """That the version bears."""
    metrics: dict[str, float]
    """That were logged to its model."""
    run_id: str
    """The MLflow run that registered it."""
    card: Path | None
    """The model card, where there is one."""


class RegistryMoveResult(Schema):
    """What moved `@champion`."""

    name: str
    """The registered model."""
    champion: int
    """The version that is champion now; with `changed` false the one that still is, or 0 for none."""
    former: int | None
    """The version that was champion before."""
    changed: bool
    """Whether anything was changed."""


class RegistryPruneResult(Schema):
    """What `emonet registry prune` deleted, or would delete."""

    name: str
    """The registered model."""
    versions: tuple[RegisteredVersion, ...]
    """Those that nobody needs."""
    kept: tuple[RegisteredVersion, ...] = ()
    """Those that nobody needs either, but whose files are not found, or are none of this project's."""
    megabytes: float = Field(ge=0)
    """Size of their files (MB)."""
    deleted: bool
    """Whether they were deleted; else they only would be."""


def list_(arguments: RegistryArguments) -> RegistryListResult:
    """List the versions of both models.

    Raises:
        EmonetError: if the registry cannot be used.
    """
    from emonet.registry import CAPTIONER, VOICE, versions_of

    uri = _uri(arguments)
    found = tuple(_told(one, uri) for name in (VOICE, CAPTIONER) for one in versions_of(name, uri))
    return RegistryListResult(registry=hidden(uri), versions=found)


def show_list_(result: RegistryListResult) -> None:
    """One table on stderr."""
    if not result.versions:
        console.say(f"{console.name(result.registry)}: an empty registry; emonet pretrain, extract and heads fill it")
        return
    console.console.print(_table(result.versions))
    _say_lost(result.versions)


def show(arguments: RegistryShowArguments) -> RegistryShowResult:
    """Tell all that is known of a version.

    Raises:
        RequestError: if there is no such version, or its lineage cannot be read.
        EmonetError: if the registry cannot be used.
    """
    from emonet.inference import experts_of
    from emonet.registry import VOICE, metrics_of, resolve
    from emonet.tracking import lineage

    uri = _uri(arguments)
    version = _version(arguments.name, arguments.version, uri)
    told = _told(version, uri)
    folder = None if told.megabytes is None else Path(resolve(version.uri, uri, arguments.runs))
    voice = experts_of(folder).parent if folder is not None and arguments.name == VOICE else folder
    card = None if voice is None else voice / CARD
    return RegistryShowResult(
        version=told,
        lineage=None if voice is None else lineage.read(voice),
        tags=version.tags,
        metrics=metrics_of(version, uri),
        run_id=version.run_id,
        card=card if card is not None and card.is_file() else None,
    )


def show_show(result: RegistryShowResult) -> None:
    """Lines on stderr."""
    version, lineage = result.version, result.lineage
    console.console.print(_table((version,)))
    lines = {"run": result.run_id, "files": version.files, "card": str(result.card or "none")}
    if lineage is None:
        lines["lineage"] = "unknown: what it was trained on was not recorded, or its files are not found"
    else:
        lines |= {
            "corpus": f"{lineage.corpus} (fingerprint {lineage.corpus_fingerprint[:16]})",
            "clips": ", ".join(f"{count} {split}" for split, count in lineage.clips.items())
            + f" (split {lineage.split[:16]})",
            "encoder": f"{lineage.encoder} (weights {lineage.encoder_digest[:16]})",
            "store": lineage.store_fingerprint[:16],
            "code": lineage.tags()["code"],
            "seed": str(lineage.seed),
        }
    if version.former:
        lines["former"] = f"champions before it: {', '.join(map(str, version.former))}"
    for title, values in (("tags", result.tags), ("metrics", result.metrics)):
        shown = {key: value for key, value in values.items() if title == "tags" or "/mean" in key}
        lines |= {
            f"{title[:-1]} {key}": f"{value:.4g}" if isinstance(value, float) else value for key, value in shown.items()
        }
    for name, line in lines.items():
        console.say(f"  {console.name(name + ':'):<23} {console.name(line)}")
    _say_lost((version,))


def promote(arguments: RegistryPromoteArguments) -> RegistryMoveResult:
    """Make a version the champion by hand.

    Raises:
        RequestError: if there is no such version, it is champion already, or its files are not found.
        EmonetError: if the registry cannot be used.
    """
    from emonet.registry import CHAMPION, find_version, promote, version_files

    uri = _uri(arguments)
    version = _version(arguments.name, arguments.version, uri)
    champion = find_version(arguments.name, CHAMPION, uri)
    current = None if champion is None else champion.version
    found = version_files(version, uri)
    if found.size is None:
        raise RequestError(
            f"the files of {version.name} version {version.version} are not found: it cannot be champion",
            where=found.where,
            hint="emonet registry list shows which versions are whole",
        )
    if not arguments.yes:
        return RegistryMoveResult(name=version.name, champion=current or 0, former=None, changed=False)
    promote(version, uri, arguments.runs, expected=current, why="by hand, without a comparison")
    return RegistryMoveResult(name=version.name, champion=version.version, former=current, changed=True)


def show_promote(result: RegistryMoveResult) -> None:
    """What changed, or would."""
    if result.changed:
        console.say(f"{console.name(result.name)}: version {result.champion} is @champion now{_instead(result)}")
    else:
        now = f"version {result.champion}" if result.champion else "no version"
        console.say(
            f"{console.name(result.name)}: {now} is @champion; nothing was changed: --yes does it without a comparison"
        )
        console.say("  emonet compare VERSION --on CORPUS --promote does it if the figures say so")


def rollback(arguments: RegistryRollbackArguments) -> RegistryMoveResult:
    """Undo the last promotion.

    Raises:
        RequestError: if there is nothing to undo, or the former champion was deleted or its files are not found.
        EmonetError: if the registry cannot be used.
    """
    from emonet.registry import rollback

    before, now = rollback(arguments.name, _uri(arguments), arguments.runs)
    return RegistryMoveResult(name=arguments.name, champion=now.version, former=before.version, changed=True)


def show_rollback(result: RegistryMoveResult) -> None:
    """What changed."""
    console.say(f"{console.name(result.name)}: version {result.champion} is @champion again{_instead(result)}")


def prune(arguments: RegistryPruneArguments) -> RegistryPruneResult:
    """Delete versions that nobody needs, with their files.

    Raises:
        EmonetError: if the registry cannot be used.
    """
    from emonet.registry import delete_version, prunable

    uri = _uri(arguments)
    versions, kept = prunable(arguments.name, uri, arguments.runs, keep=arguments.keep)
    told = tuple(_told(one, uri) for one in versions)
    if arguments.yes:
        with console.progress("deleting", "versions") as progress:
            for done, one in enumerate(versions, 1):
                delete_version(one, uri, arguments.runs)
                progress(done, len(versions))
    return RegistryPruneResult(
        name=arguments.name,
        versions=told,
        kept=tuple(_told(one, uri) for one in kept),
        megabytes=sum(one.megabytes or 0.0 for one in told),
        deleted=arguments.yes and bool(told),
    )


def show_prune(result: RegistryPruneResult) -> None:
    """What went, or would go."""
    for one in result.kept:
        why = "are not found at" if one.megabytes is None else "are not below this project's folder, but at"
        console.say(f"[yellow]kept[/] version {one.version}: its files {why} {console.name(one.files)}")
    if any(one.megabytes is not None for one in result.kept):
        console.say("  --runs names the folder that may be deleted from")
    if not result.versions:
        others = "other " if result.kept else ""
        console.say(
            f"{console.name(result.name)}: every {others}version is needed: an alias, a former champion, or among the "
            "newest"
        )
        return
    console.console.print(_table(result.versions))
    counted = f"{console.counted(len(result.versions), 'version')}, {result.megabytes:,.1f} MB"
    console.say(f"deleted: {counted}" if result.deleted else f"would go: {counted}; --yes deletes them")


def _uri(arguments: RegistryArguments) -> str:
    from emonet.tracking import default_uri

    return default_uri(arguments.runs)


def _version(name: str, which: str, uri: str) -> Version:
    from emonet.registry import named_version, version_of

    named = named_version(which, name)
    return version_of(name, which if named is None else named, uri)


def _told(version: Version, uri: str) -> RegisteredVersion:
    from emonet.registry import version_files

    found = version_files(version, uri)
    tags = version.tags
    return RegisteredVersion(
        name=version.name,
        version=version.version,
        aliases=version.aliases,
        experiment=version.experiment,
        corpus=tags.get("corpus", ""),
        figures={key: value for key, value in tags.items() if key.startswith(("test_", "val_"))},
        created=version.created,
        megabytes=None if found.size is None else found.size / 1e6,
        files=found.where,
        former=version.former,
    )


def _table(versions: tuple[RegisteredVersion, ...]) -> Table:
    table = Table(box=HORIZONTALS, show_edge=False, pad_edge=False, collapse_padding=True)
    for column in ("model", "version", "experiment", "corpus", "MAE", "Pearson", "registered", "MB"):
        folded = column in {"experiment", "corpus"}
        table.add_column(column, no_wrap=not folded, overflow="fold")
    for one in versions:
        mae, pearson = (one.figures.get(f"test_{name}", "") for name in ("mae", "pearson"))
        table.add_row(
            one.name.removeprefix("emonet-"),
            "\n".join([str(one.version), *(f"[bold]@{console.name(alias)}[/]" for alias in one.aliases)]),
            console.name(one.experiment),
            console.name(_short(one.corpus)),
            _figure(mae),
            _figure(pearson),
            one.created.strftime("%Y-%m-%d"),
            _LOST if one.megabytes is None else f"{one.megabytes:,.1f}",
        )
    return table


def _say_lost(versions: tuple[RegisteredVersion, ...]) -> None:
    """Where files are missing, and what to do; whether somebody deleted them is not known."""
    lost = [one for one in versions if one.megabytes is None]
    for one in lost:
        console.say(f"{console.name(one.name)} version {one.version}: not found at {console.name(one.files)}")
    if lost:
        console.say(
            "put the folder back there, or use the registry (--runs) where it is; MLflow's pages delete entries"
        )


def _figure(tag: str) -> str:
    """A tag's number as tables show it; a tag that is none, as it is."""
    try:
        return shown(float(tag))
    except ValueError:
        return tag


def _short(corpus: str) -> str:
    """A corpus without its kind and the folders that it lies in."""
    parts = [part.partition(":") for part in corpus.split("+")]
    return "+".join(Path(path).name or kind for kind, _, path in parts)


def _instead(result: RegistryMoveResult) -> str:
    return "" if result.former is None else f", in place of {result.former}"
