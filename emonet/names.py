"""Names of files as text that every program can write: CSV, JSON, tables, pages, tracking servers, screens."""

from __future__ import annotations

import os


def as_text(name: object) -> str:
    r"""A path or text in valid Unicode: bytes of a file name that are not UTF-8 become `\xe4`, as Python spells them.

    Args:
        name: a path, or text that may hold such bytes (as surrogates, which no encoder takes).
    """
    text = os.fspath(name) if isinstance(name, str | os.PathLike) else str(name)
    if text.isascii():
        return text
    try:
        encoded = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # surrogates that stand for no byte, as JSON may hold them
        encoded = text.encode("utf-8", "backslashreplace")
    return encoded.decode("utf-8", "backslashreplace")


def line_by_line(text: object) -> str:
    """Text of several lines for a screen: each as `on_one_line` spells it."""
    return "\n".join(map(on_one_line, as_text(text).split("\n")))


def on_one_line(name: object) -> str:
    r"""A path or text for a screen: also line breaks and what else would steer a terminal is spelled, as `\n`."""
    text = as_text(name)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
