"""HTML pages: their template, and how they write figures."""

from __future__ import annotations

from typing import Any

from emonet.numbers import shown

INDEX = "index.html"


def render(template: str, **fields: Any) -> str:
    """A page out of a template of one of the rooms; what is filled in is escaped.

    Args:
        template: ROOM/FILE below `experiments`; it extends `core/page.html`.
        fields: what it uses. One that is missing raises.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("experiments", "."), autoescape=True, undefined=StrictUndefined)
    return environment.get_template(template).render(estimate=format, shown=shown, **fields)
