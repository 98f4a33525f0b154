"""HTML pages of verbs: where their templates are."""

from __future__ import annotations

from typing import Any

from emonet import pages

INDEX = "index.html"


def render(template: str, **fields: Any) -> str:
    """A page out of a template of one of the rooms; what is filled in is escaped.

    Args:
        template: ROOM/FILE below `experiments`; it extends `pages/page.html`.
        fields: what it uses. One that is missing raises.
    """
    return pages.render("experiments", template, **fields)
