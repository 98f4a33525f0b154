"""Target sets by name (`emotions`, `attributes`, `quality`, `published`, `classes`), or a YAML list of one's own."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import yaml
from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from emonet.errors import RequestError, brief, raise_collected
from emonet.names import as_text
from emonet.runtime import expanded
from emonet.schema import Schema
from emonet.targets.classes import CLASSES
from emonet.targets.spec import ATTRIBUTES, EMOTIONS, PUBLISHED, QUALITY, RESERVED, Target, TargetSpec, spelling

SETS: Mapping[str, TargetSpec] = MappingProxyType(
    {"emotions": EMOTIONS, "attributes": ATTRIBUTES, "quality": QUALITY, "published": PUBLISHED, "classes": CLASSES}
)
"""The sets that come with emonet, by name; `classes` are those of the corpus that is opened with it."""

_FORMS = f"{', '.join(SETS)}, or a YAML file of targets"
_YAML = (".yaml", ".yml")
_LARGEST = 1e6  # of a scale's ends: scores are float32
_EXAMPLE = "- {id: arousal, low: 1, high: 7, meaning: 'how aroused the voice is: 1 calm, 7 excited'}"


class _Entry(Schema):
    """A target as a file describes it."""

    id: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=64)
    name: str | None = Field(None, max_length=100)
    low: float = Field(strict=True, ge=-_LARGEST, le=_LARGEST)
    high: float = Field(strict=True, ge=-_LARGEST, le=_LARGEST)
    meaning: str = Field(pattern=r"\S", max_length=500)
    aliases: tuple[str, ...] = ()
    group: str = Field("", max_length=64)

    @model_validator(mode="after")
    def _check_scale(self) -> Self:
        if self.low >= self.high:
            told = "low {low} is not below high {high}"
            raise PydanticCustomError("scale", told, {"low": f"{self.low:g}", "high": f"{self.high:g}"})
        return self

    def target(self) -> Target:
        """As the rest of emonet knows it."""
        name = (self.name or "").strip() or self.id.replace("_", " ").capitalize()
        meaning = " ".join(self.meaning.split())
        return Target(self.id, name, self.low, self.high, meaning, aliases=self.aliases, group=self.group)


def open_targets(name_or_file: str) -> TargetSpec:
    """The target set of a name, or of a YAML file of one's own.

    Args:
        name_or_file: one of `SETS`, or a file with a list of targets, relative to the working folder; docs/targets.md
            describes it.

    Raises:
        RequestError: if there is no such set or file, or with all that is wrong in the file.
    """
    if name_or_file in SETS:
        return SETS[name_or_file]
    path = expanded(name_or_file)
    if path.suffix.lower() in _YAML or path.is_file():
        return _of_file(path)
    near = difflib.get_close_matches(name_or_file, SETS, n=1, cutoff=0.5)
    raise RequestError(
        f"there is no target set called {name_or_file!r}",
        expected=_FORMS,
        found=repr(name_or_file),
        hint=f"did you mean {near[0]}?" if near else "docs/targets.md describes a file of your own",
    )


def _of_file(path: Path) -> TargetSpec:
    rows = _read(path)
    problems = [problem for number, row in enumerate(rows, 1) for problem in _wrong(row, number)]
    problems += _collisions(rows)
    raise_collected(
        "the target set cannot be used", problems, where=as_text(path), hint="docs/targets.md describes the fields"
    )
    return TargetSpec(tuple(_Entry.model_validate(row).target() for row in rows))


def _read(path: Path) -> list[Any]:
    """The list in a file; nothing is known of its rows yet."""
    if not path.is_file():
        raise RequestError(
            "there is no such file of targets",
            where=as_text(path.absolute()),
            expected=_FORMS,
            found="a folder" if path.is_dir() else "no such file",
            hint="a path starts from the working folder, also in an experiment's file",
        )
    try:
        rows = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        raise RequestError("the file of targets cannot be read", where=as_text(path), found=error) from error
    if not isinstance(rows, list) or not rows:
        raise RequestError(
            "the file holds no list of targets",
            where=as_text(path),
            expected=f"entries such as {_EXAMPLE}",
            found="nothing" if rows is None else brief(rows),
        )
    return rows


def _wrong(row: object, number: int) -> Iterator[str]:
    """What is wrong with one entry by itself."""
    place = _place(row, number)
    if not isinstance(row, dict):
        yield f"{place}: a mapping with {', '.join(_Entry.model_fields)} is expected; found {brief(row)}"
        return
    try:
        entry = _Entry.model_validate(row)
    except ValidationError as error:
        for detail in error.errors():
            field = ".".join(map(str, detail["loc"]))
            told = detail["msg"][0].lower() + detail["msg"][1:]
            if detail["type"] == "extra_forbidden":
                yield f"{place}: {field}: no such field; {_suggestion(field)}"
            elif detail["type"] == "missing":
                yield f"{place}: {field} is missing"
            elif detail["type"] == "scale":
                yield f"{place}: {told}"
            elif (field, detail["type"]) == ("id", "string_pattern_mismatch"):
                yield (
                    f"{place}: id: it names columns and files: letters (a to z), digits and _, a letter first; "
                    f"found {brief(row['id'])}"
                )
            else:
                yield f"{place}: {field}: {told}; found {brief(detail['input'])}"
        return
    for name in (entry.name or "", *entry.aliases):
        if name and not (name.isprintable() and spelling(name)):
            yield f"{place}: a name is one line with a letter or digit in it; found {brief(name)}"


def _suggestion(field: str) -> str:
    near = difflib.get_close_matches(field, _Entry.model_fields, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(_Entry.model_fields)}"


def _collisions(rows: list[Any]) -> Iterator[str]:
    """Names that two targets share, however they are spelled, or that something else has."""
    owners: dict[str, tuple[int, str]] = {}
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            continue
        aliases = row.get("aliases")
        names = [row.get("id"), row.get("name"), *(aliases if isinstance(aliases, list) else ())]
        for name in dict.fromkeys(name for name in names if isinstance(name, str) and spelling(name)):
            if name.strip().casefold() in RESERVED:
                yield f"{_place(row, number)}: {name!r} is what another column is called; give the target another name"
            owner, used = owners.setdefault(spelling(name), (number, name))
            if owner != number:
                yield f"{_place(row, number)}: {name!r} already names {_place(rows[owner - 1], owner)}" + (
                    "" if used == name else f", as {used!r}"
                )


def _place(row: object, number: int) -> str:
    named = row.get("id") if isinstance(row, dict) else None
    return f"target {number}" + (f" ({named})" if isinstance(named, str) and named.isprintable() and named else "")
