"""EmoBox's fold files (arXiv 2406.07162): fold_N/CORPUS_{train,valid,test}_fold_N.jsonl, one clip a line.

What its files get wrong is passed over: stale copies beside them (`*_fold1.jsonl`), labels (the corpus has its own),
channels. Folds whose test speakers are trained on, too, stay as they are: who reports them says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from emonet.clips import Corpus, Fold, Folds, number_of
from emonet.corpora.clip_names import ClipNames
from emonet.errors import RequestError, brief, raise_collected, shortened

Role = Literal["train", "valid", "test"]
_FOLD = re.compile(r"fold_?(\w+)", re.IGNORECASE)
_SHOWN = 3  # names in a sentence


def open_emobox(folder: Path, corpus: Corpus) -> Folds:
    """The folds of a corpus as EmoBox has them.

    A fold without a list of training clips trains on whatever the others test.

    Args:
        folder: of one corpus' metadata, with fold_1, fold_2 and so on in it.
        corpus: whose clips are meant.

    Raises:
        RequestError: if there are no folds, one has no readable list of test clips, or they name no clip of the corpus.
    """
    places = _places(folder)
    names, missing = ClipNames(corpus.clips), dict[str, None]()
    found: dict[str, dict[Role, list[int] | None]] = {}
    problems: list[str] = []
    for fold, place in places.items():
        found[fold] = {role: _rows(place, fold, role, names, missing, problems) for role in ("train", "valid", "test")}
        if found[fold]["test"] is None and not problems:
            problems.append(f"{place.name} has no list of test clips, such as CORPUS_test_fold_{fold}.jsonl")
    raise_collected("EmoBox's folds cannot be used", problems, where=folder)
    tested = {fold: roles["test"] or [] for fold, roles in found.items()}
    empty = [fold for fold, rows in tested.items() if not rows]
    if empty:
        raise RequestError(
            "EmoBox's folds name no clip of the corpus"
            if len(empty) == len(tested)
            else f"fold {', '.join(empty)} of EmoBox's tests no clip of the corpus",
            where=folder,
            expected=f"{corpus.name}, with clips such as {corpus.clips[0].id}",
            found=shortened(list(missing), _SHOWN),
            hint="are the folds those of this corpus?",
        )
    return Folds(tuple(_fold(name, roles, tested) for name, roles in found.items()), _remarks(missing, tested, corpus))


def _places(folder: Path) -> dict[str, Path]:
    """Name of each fold -> its folder, in the order of their numbers."""
    if not folder.is_dir():
        raise RequestError("there is no such folder of EmoBox's folds", where=folder, hint="emobox:FOLDER")
    places = {match[1]: one for one in folder.iterdir() if one.is_dir() and (match := _FOLD.fullmatch(one.name))}
    if not places:
        inside = sorted(one.name for one in folder.iterdir() if one.is_dir())
        raise RequestError(
            "the folder has no folds of EmoBox's",
            where=folder,
            expected="fold_1, fold_2 and so on",
            found=shortened(inside, _SHOWN) or "no folders",
            hint=f"emobox:{folder / inside[0]}" if inside else None,
        )
    return {name: places[name] for name in sorted(places, key=lambda name: (len(name), name))}


def _rows(
    place: Path, fold: str, role: Role, names: ClipNames, missing: dict[str, None], problems: list[str]
) -> list[int] | None:
    """Rows that a list names; None where there is no such list. What the corpus lacks is added to `missing`."""
    path = next(
        (
            path
            for ending in (f"fold_{fold}.jsonl", f"fold_{fold}.json", f"fold{fold}.jsonl", f"fold{fold}.json")
            for path in sorted(place.glob(f"*_{role}_{ending}"))
        ),
        None,
    )
    if path is None:
        return None
    rows: list[int] = []
    try:
        for entry in _entries(path):
            known = names.clips(entry)
            rows += known
            if not known:
                missing[entry] = None
    except (OSError, ValueError, KeyError, TypeError) as error:
        problems.append(f"{place.name}/{path.name} is no list of EmoBox's: {type(error).__name__}: {error}")
    return rows


def _entries(path: Path) -> Iterator[str]:
    """The file of each clip, or its key where none is said."""
    text = path.read_text("utf-8")
    entries: list[Any]
    if path.suffix == ".jsonl":
        entries = [json.loads(line) for line in text.splitlines() if line.strip()]
    else:
        entries = [{"key": key, **entry} for key, entry in json.loads(text).items()]
    for entry in entries:
        if not isinstance(entry, dict):
            raise TypeError(f"{brief(entry)} is no clip")
        yield str(entry["wav"] if entry.get("wav") else entry["key"])


def _fold(name: str, roles: dict[Role, list[int] | None], tested: dict[str, list[int]]) -> Fold:
    listed = roles["train"]
    if listed is None:
        listed = [row for other, rows in tested.items() if other != name for row in rows]
    train, validation = number_of(listed), number_of(roles["valid"] or ())
    return Fold(name, number_of(tested[name]), np.setdiff1d(train, validation), validation)


def _remarks(missing: dict[str, None], tested: dict[str, list[int]], corpus: Corpus) -> tuple[str, ...]:
    remarks = []
    if missing:
        shown = shortened(list(missing), _SHOWN)
        remarks.append(f"{len(missing):,} of the clips that the folds name are not in the corpus: {shown}")
    left = len(corpus.clips) - len({row for rows in tested.values() for row in rows})
    if left:
        remarks.append(f"{left:,} clips of the corpus are tested in no fold")
    return tuple(remarks)
