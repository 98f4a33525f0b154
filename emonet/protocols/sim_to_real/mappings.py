"""Mappings of emotions to a corpus' classes: those of EmoNet-Voice for EmoDB and RAVDESS, and files of one's own."""

from __future__ import annotations

import csv
import difflib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jaxtyping import Int

from emonet.errors import RequestError, brief, raise_collected
from emonet.names import as_text
from emonet.runtime import expanded
from emonet.targets import EMOTIONS, NO_CLASS, TargetSpec, spelling

FILES = resources.files("emonet.protocols.sim_to_real") / "as_published"
SHIPPED = {"emodb": "arXiv 2506.09827, table 11", "ravdess": "arXiv 2506.09827, table 11"}
"""Corpus -> where the mapping that comes with emonet was published."""

_COLUMNS = ("emotion", "class")
_FORM = "CLASS: [EMOTION, ...] lines (.yaml), or columns `emotion` and `class` (.csv)"
_HINT = "docs/benchmark-variance.md shows a file; emonet targets lists the emotions"


@dataclass(frozen=True)
class ClassMapping:
    """Which emotions stand for each class of a corpus.

    Args:
        name: of the corpus, or of the file.
        source: where it was published, or its path.
        classes: class -> ids of its emotions; two classes at least, and no emotion twice.
    """

    name: str
    source: str
    classes: Mapping[str, tuple[str, ...]]

    @cached_property
    def emotions(self) -> tuple[str, ...]:
        """Ids of the mapped emotions, class by class."""
        return tuple(emotion for emotions in self.classes.values() for emotion in emotions)

    @cached_property
    def owner(self) -> Int[np.ndarray, " emotions"]:
        """Position of the class of each of `emotions`."""
        sizes = [len(emotions) for emotions in self.classes.values()]
        return np.repeat(np.arange(len(sizes)), sizes)

    def scored_by(self, spec: TargetSpec) -> ClassMapping:
        """The same classes with those emotions alone that a model scores; some may have none left."""
        known = set(spec.ids)
        kept = {name: tuple(one for one in emotions if one in known) for name, emotions in self.classes.items()}
        return ClassMapping(self.name, self.source, kept)

    def given(self, labels: Sequence[str | None]) -> Int[np.ndarray, " clips"]:
        """Position of each label's class, however it is capitalised; `NO_CLASS` for other labels and for none."""
        positions = {spelling(name): row for row, name in enumerate(self.classes)}
        return np.array(
            [NO_CLASS if label is None else positions.get(spelling(label), NO_CLASS) for label in labels], np.int64
        )


def open_mapping(name_or_file: str, *, targets: TargetSpec = EMOTIONS) -> ClassMapping:
    """The mapping of a corpus that comes with emonet, or that of a file.

    Args:
        name_or_file: `emodb`, `ravdess`, or a YAML or CSV file, relative to the working folder.
        targets: whose emotions it may name, by id, published name or alias.

    Raises:
        RequestError: if there is no such mapping or file, or with all that is wrong in the file.
    """
    if name_or_file in SHIPPED:
        file = FILES / f"{name_or_file}.csv"
        return _mapping(name_or_file, SHIPPED[name_or_file], _csv_rows(file, file.name), EMOTIONS)
    path = expanded(name_or_file)
    if not path.is_file():
        near = difflib.get_close_matches(name_or_file, SHIPPED, n=1, cutoff=0.5)
        raise RequestError(
            f"there is no mapping of emotions to classes called {name_or_file!r}",
            expected=f"{', '.join(SHIPPED)}, or a file with {_FORM}",
            found="a folder" if path.is_dir() else "no such file",
            hint=f"did you mean {near[0]}?" if near else _HINT,
        )
    rows = _csv_rows(path, path) if path.suffix.lower() == ".csv" else _yaml_rows(path)
    return _mapping(path.stem, as_text(path), rows, targets)


def _mapping(name: str, source: str, rows: Iterable[tuple[str, str, str]], targets: TargetSpec) -> ClassMapping:
    """Put rows of place, emotion and class together; all that is wrong with them in one message."""
    classes: dict[str, list[str]] = defaultdict(list)
    spelled: dict[str, str] = {}
    taken: dict[str, tuple[str, str]] = {}
    problems = []
    for place, emotion, label in rows:
        if not spelling(label):
            problems.append(f"{place}: {label!r} is no name of a class: it has neither letter nor digit")
            continue
        first = spelled.setdefault(spelling(label), label)
        if first != label:
            problems.append(f"{place}: the classes {first!r} and {label!r} differ in their spelling only")
            continue
        try:
            found = targets.ids[targets.index(emotion)]
        except RequestError as error:
            near = str(error).partition("such as ")[2].splitlines()
            problems.append(f"{place}: {error.what}" + (f"; the nearest are {near[0]}" if near else ""))
            continue
        before = taken.setdefault(found, (place, label))
        if before != (place, label):
            told = (
                f"already stands for {before[1]!r} ({before[0]})" if before[1] != label else f"is at {before[0]}, too"
            )
            problems.append(f"{place}: {found} {told}; an emotion stands for one class, once")
            continue
        classes[label].append(found)
    if not problems and len(classes) < 2:
        problems.append(f"{len(classes)} class{'es' * (len(classes) != 1)} with an emotion; there are two at least")
    raise_collected("the mapping of emotions to classes cannot be used", problems, where=source, hint=_HINT)
    return ClassMapping(name, source, {label: tuple(emotions) for label, emotions in classes.items()})


def _csv_rows(file: Path | Traversable, where: object) -> Iterator[tuple[str, str, str]]:
    try:
        lines = list(csv.reader(_text(file, where).splitlines()))
    except csv.Error as error:
        raise RequestError("the mapping of emotions to classes cannot be read", where=where, found=error) from error
    header = [cell.strip().casefold() for cell in lines[0]] if lines else []
    if missing := [name for name in _COLUMNS if name not in header]:
        raise RequestError(
            "the mapping of emotions to classes lacks a column",
            where=where,
            expected=" and ".join(_COLUMNS),
            found=", ".join(header) or "nothing",
            hint=f"add the column{'s' * (len(missing) != 1)} {' and '.join(missing)}",
        )
    at = [header.index(name) for name in _COLUMNS]
    for number, line in enumerate(lines[1:], 2):
        emotion, label = (line[column].strip() if column < len(line) else "" for column in at)
        if label:  # an emotion without a class stands for none
            yield f"line {number}", emotion, label


def _yaml_rows(path: Path) -> Iterator[tuple[str, str, str]]:
    try:
        content: Any = yaml.safe_load(_text(path, path))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise RequestError("the mapping of emotions to classes cannot be read", where=path, found=error) from error
    if not isinstance(content, dict) or not content:
        raise _no_mapping(path, "nothing" if content is None else brief(content))
    for label, emotions in content.items():
        several = [emotions] if isinstance(emotions, str) else emotions
        if not isinstance(label, str) or not isinstance(several, list) or not all(isinstance(e, str) for e in several):
            raise _no_mapping(path, f"{brief(label)}: {brief(emotions)}")
        if not several:
            raise _no_mapping(path, f"class {label!r} without an emotion")
        for number, emotion in enumerate(several, 1):
            yield f"{label}, emotion {number}", emotion, label


def _no_mapping(path: Path, found: str) -> RequestError:
    told = "the file holds no mapping of emotions to classes"
    return RequestError(told, where=path, expected=_FORM, found=found, hint=_HINT)


def _text(file: Path | Traversable, where: object) -> str:
    try:
        return file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError("the mapping of emotions to classes cannot be read", where=where, found=error) from error
