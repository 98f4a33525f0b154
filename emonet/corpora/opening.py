"""Opens corpora by name: `sandbox`, `ravdess:PATH`, `manifest:FILE`, those of plug-ins, joined with `+`."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from emonet.clips import Corpus, Sources, join
from emonet.corpora.acted import EMODB, NEMO, RAVDESS, open_acted
from emonet.corpora.labels import as_classes, as_prototypes
from emonet.corpora.manifest import open_manifest, open_tars, path_exists, unspelled
from emonet.corpora.plugged import GROUP, open_plugged, plugged_kinds
from emonet.corpora.sandbox import open_sandbox
from emonet.errors import RequestError, shortened
from emonet.objects import is_url
from emonet.runtime import Progress, expanded, ignore, pick_plugin, require_plugin
from emonet.targets import CLASSES, EMOTIONS, TargetSpec, are_classes

_COLUMN = "#"  # between a manifest and the name of its column of classes


_ACTED = MappingProxyType({layout.kind: layout for layout in (RAVDESS, EMODB, NEMO)})
_TABLE_KINDS = ("manifest", "tars")
_WITH_PATH = (*_ACTED, *_TABLE_KINDS)
_BUILT_IN = ("sandbox", *_WITH_PATH)
_RATED: Mapping[str, tuple[str, ...]] = MappingProxyType(  # kinds that can rate these emotions and nothing else
    {"sandbox": EMOTIONS.ids, **{kind: layout.prototypes for kind, layout in _ACTED.items()}}
)
_TABLES = (".csv", ".jsonl", ".ndjson", ".parquet")
_TAR = ".tar"


def open_corpus(
    spec: str,
    *,
    targets: TargetSpec = EMOTIONS,
    classes: Mapping[str, str | None] = MappingProxyType({}),
    folder: Path = Path("runs/corpora"),
    sources: Sources | None = None,
    progress: Progress = ignore,
) -> Corpus:
    """Open the corpora that `spec` names, as one.

    Args:
        spec: for example `sandbox`, `ravdess:data/ravdess` or `ravdess:data/ravdess+manifest:mine.csv`; other kinds
            come with plug-ins. A path may hold anything, also `+` and `:`, if it is there. `manifest:mine.csv#emotion`
            names the column of classes.
        targets: what it is for; scores of anything else are left out. Of classes (`emonet.targets.CLASSES`, or those
            of a store) each becomes a target.
        classes: label -> target that its clips are to be scored by, where they have no scores; None for a class that
            is none of them.
        folder: where the audio of `sandbox` is synthesised once and found again.
        sources: hears of the files that the corpora are made of.
        progress: told about each corpus in turn, in clips.

    Raises:
        RequestError: if a kind is unknown, a path is missing or holds no audio, a manifest has problems, a plug-in
            cannot be used, none of the corpora can rate a target, classes cannot be trained, a label stands for no
            target, or joined corpora share an id or split a speaker.
        EmonetError: if the sandbox cannot be synthesised.
    """
    plugged = plugged_kinds()
    parts = _parts(spec, plugged)
    for part in parts:
        _check(part, plugged)
    if not are_classes(targets):
        _require_rated(parts, targets)
    # The sandbox comes last: a wrong path elsewhere is found before the synthesis, which takes longest.
    opened = {
        part: _open(part, targets, folder, sources, progress)
        for part in sorted(parts, key=lambda part: part == "sandbox")
    }
    corpus = join([opened[part] for part in parts])
    if are_classes(targets):
        return as_classes(corpus, targets)
    return as_prototypes(corpus, classes) if classes else corpus


def _parts(spec: str, plugged: Collection[str]) -> list[str]:
    """Split at each `+` that joins corpora, and at none that belongs to a path.

    What is there decides: a path goes as far as it is the name of something on disk. Where nothing is, a part ends
    before `sandbox` and before a word with a colon.
    """
    pieces = spec.split("+")
    parts: list[str] = []
    while pieces:
        taken = _of_path(pieces, plugged)
        parts.append("+".join(pieces[:taken]))
        pieces = pieces[taken:]
    return [part.lstrip() if part.partition(":")[1] and path_exists(_path(part)) else part.strip() for part in parts]


def _of_path(pieces: list[str], plugged: Collection[str]) -> int:
    """How many of the pieces make the first part."""
    kind, colon, _ = pieces[0].partition(":")
    if kind.strip() not in {*_WITH_PATH, *plugged} or not colon:
        return 1
    for count in range(len(pieces), 1, -1):
        if path_exists(_path("+".join(pieces[:count]))):
            return count
    if path_exists(_path(pieces[0])):
        return 1
    others = (count for count in range(1, len(pieces)) if pieces[count].strip() == "sandbox" or ":" in pieces[count])
    return next(others, len(pieces))


def _path(part: str) -> Path:
    """The path in a part, as it is written if that is there, else without spaces around it."""
    path = part.partition(":")[2]
    written = expanded(path)
    return unspelled(written if path and path_exists(written) else expanded(path.strip()))


def _location(part: str) -> Path | str:
    """The path in a part, or its URL as text, of which a path would drop a slash."""
    location = part.partition(":")[2].strip()
    return location if is_url(location) else _path(part)


def _open(part: str, targets: TargetSpec, folder: Path, sources: Sources | None, progress: Progress) -> Corpus:
    rated = EMOTIONS if are_classes(targets) else targets
    kind = part.partition(":")[0]
    if kind in _TABLE_KINDS:
        return _open_table(kind, _location(part), targets, folder, sources, progress)
    if kind in _ACTED:
        return open_acted(_ACTED[kind], _path(part), targets=rated, sources=sources, progress=progress)
    if sources is not None:
        sources.set_incomplete()  # what a plug-in reads, and how the sandbox is made, is not in files alone
    if part == "sandbox":
        return open_sandbox(folder, targets=rated, progress=progress)
    return open_plugged(require_plugin(kind, GROUP), part, _path(part), rated, progress)


def _open_table(
    kind: str,
    location: Path | str,
    targets: TargetSpec,
    folder: Path,
    sources: Sources | None,
    progress: Progress,
) -> Corpus:
    file, column = _with_column(location)
    wanted = CLASSES if are_classes(targets) else targets
    if kind == "tars":
        index = folder / "tars"
        opened = open_tars(str(file), index, targets=wanted, label=column, sources=sources, progress=progress)
    else:
        opened = open_manifest(file, targets=wanted, label=column, sources=sources, progress=progress)
    # without scores, as whatever it is joined with is opened
    return replace(opened, targets=EMOTIONS) if are_classes(targets) else opened


def _with_column(location: Path | str) -> tuple[Path | str, str | None]:
    """A table and the column of classes that is named behind it, unless the whole is a file's name."""
    text = str(location)
    name, sign, column = (part.strip() for part in text.rpartition(_COLUMN))
    is_named = (
        name and sign and column and "/" not in column and (isinstance(location, str) or not path_exists(location))
    )
    file = name if is_named else text
    return (file if isinstance(location, str) else unspelled(Path(file)), column if is_named else None)


def _require_rated(parts: list[str], targets: TargetSpec) -> None:
    """Refuse acted corpora alone where they rate none of the targets, before any work is done."""
    kinds = [part.partition(":")[0] for part in parts]
    wanted = set(EMOTIONS.also_in(targets))
    if not all(kind in _RATED for kind in kinds) or any(wanted & set(_RATED[kind]) for kind in kinds):
        return
    rated = {kind: f"{kind} rates {shortened(_RATED[kind])}" for kind in kinds}
    raise RequestError(
        f"the corpus {'+'.join(parts)} rates none of the targets",
        expected=f"a manifest with columns {shortened(targets.ids)}",
        found="; ".join(rated.values()),
        hint="manifest:FILE, or joined with it: CORPUS+manifest:FILE; or --targets emotions",
    )


def _check(part: str, plugged: Mapping[str, str]) -> None:
    """Refuse what names no corpus, before any work is done."""
    kind, _, path = part.partition(":")
    pick_plugin(kind, GROUP, built_in=_BUILT_IN)
    if part == "sandbox":
        return
    if kind not in {*_WITH_PATH, *plugged}:
        if Path(part).suffix.lower() in (*_TABLES, _TAR) and (is_url(part) or path_exists(expanded(part))):
            named = shlex.quote(f"{'tars' if part.lower().endswith(_TAR) else 'manifest'}:{part}")
            hint = f"--corpus {named} (emonet corpus {named} shows what is in it)"
            raise RequestError(
                "a manifest is named with its kind", expected=_forms(plugged), found=repr(part), hint=hint
            )
        near = difflib.get_close_matches(kind, [*_BUILT_IN, *plugged], n=1, cutoff=0.5)
        raise RequestError(
            f"there is no corpus of the kind {kind!r}" if part else "a corpus has no name",
            expected=_forms(plugged),
            found=repr(part),
            hint=f"did you mean {near[0]}?" if near else None,
        )
    if not path.strip():
        raise RequestError(
            f"the corpus {kind!r} needs a path",
            expected=f"{kind}:PATH",
            found=repr(part),
            hint=f"emonet corpus {kind}:data/{kind}",
        )


def _forms(plugged: Mapping[str, str]) -> str:
    """What can be typed, plug-ins included."""
    others = "".join(f", {kind}:PATH ({packages})" for kind, packages in plugged.items())
    own = ", ".join(f"{kind}:{'FILE' if kind in _TABLE_KINDS else 'PATH'}" for kind in _WITH_PATH)
    return f"sandbox, {own}{others}, or several joined with +"
