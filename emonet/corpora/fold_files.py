"""Folds of a corpus by what a user asks for: a number, one for each speaker, a file of one's own, or EmoBox's."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emonet.clips import Corpus, Folds, check_folds, deal_folds, folds_of, leave_one_out
from emonet.corpora.clip_names import ClipNames, parts_of
from emonet.corpora.emobox import open_emobox
from emonet.errors import RequestError, brief, raise_collected, shortened
from emonet.runtime import expanded
from emonet.tables import as_name

LOSO, EMOBOX = "loso", "emobox:"
_COLUMNS = ("speaker", "clip")
_FORM = "NAME: FOLD lines (.yaml, .json), or columns `speaker` or `clip` and `fold` (.csv)"
_KINDS = f"a number of folds, {LOSO}, a .yaml, .json or .csv file, or {EMOBOX}FOLDER"


def open_folds(wanted: str, corpus: Corpus) -> Folds:
    """The folds that a flag names.

    Args:
        wanted: a number; `loso`, one fold for each speaker; `emobox:FOLDER` with EmoBox's fold_1, fold_2 and so on; or
            a file that says the fold of each speaker, or clip.
        corpus: whose clips they are.

    Raises:
        RequestError: if there are no such folds, they name nothing of the corpus, a clip is tested twice, or a clip is
            trained on where it is tested.
    """
    if wanted.lstrip("+-").isdecimal():
        return deal_folds(corpus.clips, int(wanted))
    if wanted == LOSO:
        return leave_one_out(corpus.clips)
    if wanted.startswith(EMOBOX):
        folder = expanded(wanted.removeprefix(EMOBOX))
        folds = open_emobox(folder, corpus)
        check_folds(folds, corpus.clips, folder)
        return folds
    return _of_file(expanded(wanted), corpus)


def _of_file(path: Path, corpus: Corpus) -> Folds:
    names, rejected = ClipNames(corpus.clips), {parts_of(one.id)[-1] for one in corpus.rejected}
    tested: dict[str, list[int]] = defaultdict(list)
    placed: dict[int, str] = {}
    problems, unknown = [], []
    for name, fold in _read(path):
        rows = names.speaker(name) or names.clips(name)
        if not rows and parts_of(name)[-1] not in rejected:
            unknown.append(name)
        problems += [
            f"clip {corpus.clips[row].id!r} is in the folds {placed[row]} and {fold}"
            for row in rows
            if placed.setdefault(row, fold) != fold
        ]
        tested[fold] += [row for row in rows if placed[row] == fold]
    if unknown:
        problems.append(f"neither a speaker nor a clip of the corpus, or several of them: {shortened(unknown, 5)}")
    if not problems and len(tested) < 2:
        problems.append(f"{len(tested)} fold ({', '.join(tested)}); there are two at least")
    problems += [f"fold {fold} has no clip" for fold, rows in tested.items() if not rows and not unknown]
    raise_collected("the file of folds cannot be used", problems, where=path, hint="emonet corpus names the speakers")
    left = len(corpus.clips) - len(placed)
    remarks = [f"{left:,} clip{'s' * (left != 1)} in no fold: neither tested nor trained on"] if left else []
    return folds_of(dict(tested), remarks)


def _read(path: Path) -> Iterator[tuple[str, str]]:
    """Each name with its fold.

    Raises:
        RequestError: if the file cannot be read, or holds anything else.
    """
    if not path.is_file():
        raise RequestError("there are no such folds", expected=_KINDS, found=path, hint="emonet heads --folds loso")
    try:
        pairs = list(_table(path) if path.suffix.lower() == ".csv" else _mapping(path))
    except (OSError, ValueError, csv.Error, RecursionError) as error:  # ValueError: no UTF-8, or no such date
        reason = (error.strerror or error) if isinstance(error, OSError) else error
        raise RequestError("the file of folds cannot be read", where=path, expected=_FORM, found=reason) from error
    given = [(_text(name), _text(fold)) for name, fold in pairs]
    problems = [
        f"{brief(name)}: {brief(fold)} is no fold of a speaker or clip"
        for (name, fold), told in zip(pairs, given, strict=True)
        if not all(told)
    ]
    problems = problems or ([] if given else ["it names nothing"])
    raise_collected("the file of folds cannot be used", problems, where=path, hint=_FORM)
    return iter(given)


def _text(value: Any) -> str:
    """A name as people write it, `7` for 7.0; empty where it is none."""
    named = isinstance(value, str | int | float) and not isinstance(value, bool)
    return (as_name(value) or "") if named else ""


def _mapping(path: Path) -> Iterator[tuple[Any, Any]]:
    import yaml

    try:
        values = yaml.safe_load(path.read_text("utf-8"))  # JSON is YAML, too
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    if not isinstance(values, dict):
        raise ValueError(brief(values))
    yield from values.items()


def _table(path: Path) -> Iterator[tuple[Any, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, skipinitialspace=True)
        columns = [name for name in _COLUMNS if name in (rows.fieldnames or ())]
        if len(columns) != 1 or "fold" not in (rows.fieldnames or ()):
            raise ValueError(f"the columns {', '.join(map(brief, rows.fieldnames or ()))}")
        yield from ((row[columns[0]], row["fold"]) for row in rows)
