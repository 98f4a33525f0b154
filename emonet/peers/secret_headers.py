"""Secrets: `${NAME}` in a header stands for a variable of the environment, which no message and no file ever shows."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import final
from urllib.parse import parse_qsl, quote, urlsplit

from emonet.errors import RequestError

NAMED = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRET = re.compile(r"authorization|cookie|api[-_]?key|(^|[-_])(key|token|secret|password)$", re.IGNORECASE)
_SHORTEST = 4  # characters: what is shorter is no secret, and would be found in any text


@final
class Secrets:
    """What variables of the environment hold; shows their names alone.

    Args:
        texts: in which `${NAME}` stands for them.

    Raises:
        RequestError: if one is not set, or cannot be sent in a header; it names the variable, not what it holds.
    """

    __slots__ = ("_forms", "_values")

    def __init__(self, texts: Iterable[str]) -> None:
        names = dict.fromkeys(name for text in texts for name in NAMED.findall(text))
        self._values: Mapping[str, str] = {name: _value(name) for name in names}
        secret = [value for value in self._values.values() if len(value) >= _SHORTEST]
        self._forms = sorted({form for value in secret for form in _forms(value)}, key=len, reverse=True)

    def __repr__(self) -> str:
        return f"Secrets({', '.join(self._values)})"

    def fill(self, text: str) -> str:
        """Put the values in the place of their names; for nothing but what is sent."""
        return NAMED.sub(lambda found: self._values[found[1]], text)

    def hide(self, text: str) -> str:
        """The text with stars in the place of each value, however it is spelled: as it is, in URLs, JSON or base64."""
        for form in self._forms:
            text = text.replace(form, "***")
        return text


def wrong_url(url: str) -> str | None:
    """What is wrong with a URL that is to be called, if something is; does not show it."""
    try:
        parts = urlsplit(url)
        host, query = parts.hostname, parse_qsl(parts.query)
    except ValueError:
        host, query = None, []
    if not host or parts.scheme not in {"http", "https"}:
        return "http:// or https:// and a host are expected"
    if parts.username or parts.password or NAMED.search(url) or any(_SECRET.search(name) for name, _ in query):
        return "a secret in a URL gets into logs; put it in a header, as ${NAME}"
    return None


def wrong_headers(headers: Mapping[str, str]) -> str | None:
    """What is wrong with headers, if something is; shows their names alone."""
    for name, value in headers.items():
        if _SECRET.search(name) and not NAMED.search(value):
            return f"{name} holds a secret; write ${{NAME}} and put it into the environment"
        if "${" in NAMED.sub("", value):
            return f"{name}: ${{NAME}} with a name of letters, digits and _ is expected"
    return None


def wrong_fields(value: object) -> str | None:
    """What is wrong with other fields of a request, if something is: secrets have no place there."""
    if isinstance(value, Mapping):
        named = next((str(name) for name in value if _SECRET.search(str(name))), None)
        if named is not None:
            return f"{named} looks like a secret; put it in a header, as ${{NAME}}"
        return next((wrong for one in value.values() if (wrong := wrong_fields(one))), None)
    if isinstance(value, list):
        return next((wrong for one in value if (wrong := wrong_fields(one))), None)
    return "${NAME} is for headers" if isinstance(value, str) and NAMED.search(value) else None


def _value(name: str) -> str:
    value = os.environ.get(name, "").strip()  # files of secrets end with a line break
    if not value:
        raise RequestError(
            f"the variable {name} is not set",
            where="environment",
            expected="the key of the service",
            hint=f"export {name}=..., or score from the answers that are kept",
        )
    if not (value.isascii() and value.isprintable()):
        raise RequestError(
            f"the variable {name} cannot be sent in a header",
            where="environment",
            expected="ASCII characters on one line",
            hint="copy the key again",
        )
    return value


def _forms(value: str) -> Iterable[str]:
    yield value
    yield quote(value, safe="")
    yield quote(value)
    yield json.dumps(value)[1:-1]
    yield base64.b64encode(value.encode()).decode()
