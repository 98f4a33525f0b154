"""Render a page out of a template, in the words of a language.

`pages/page.html` is the frame, `pages/sorting.html` sorts tables by their heads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from typing import Any

from emonet.numbers import shown

LANGUAGES = ("en", "de")
"""Of pages that are not in English alone; the first one is that of readers of all others."""


def render(package: str, template: str, *, parts: Mapping[str, str] = MappingProxyType({}), **fields: Any) -> str:
    """A page out of a template of a package; what is filled in is escaped.

    Args:
        package: dotted name of the package whose folder holds the template.
        template: its path there; it extends `pages/page.html`.
        parts: prefix -> package whose templates are included under it, as `pages/` are.
        fields: what it uses. One that is missing raises.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, PrefixLoader, StrictUndefined

    prefixes = {"pages": "emonet.pages", **parts}
    frame = PrefixLoader({prefix: PackageLoader(name, ".") for prefix, name in prefixes.items()})
    loader = ChoiceLoader([frame, PackageLoader(package, ".")])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    return environment.get_template(template).render(estimate=format, shown=shown, **fields)


def text(package: str, name: str) -> str:
    """A file of a package that becomes part of a page."""
    return (resources.files(package) / name).read_text("utf-8")


def words(package: str, language: str) -> dict[str, Any]:
    """What a page says, by key: the package's `words.LANGUAGE.json`.

    Args:
        package: dotted name of the package.
        language: one of `LANGUAGES`.
    """
    found: dict[str, Any] = json.loads(text(package, f"words.{language}.json"))
    return found
