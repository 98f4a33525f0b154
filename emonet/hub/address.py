"""Addresses of models on the hub, `hf://ORG/NAME[@REVISION]`."""

from __future__ import annotations

from emonet.errors import RequestError

SCHEME = "hf://"


def hub_address(source: str) -> tuple[str, str | None] | None:
    """Name and revision of `hf://ORG/NAME[@REVISION]`; None where it is none.

    Raises:
        RequestError: if it names no model.
    """
    if not source.startswith(SCHEME):
        return None
    name, _, revision = source.removeprefix(SCHEME).partition("@")
    if name.count("/") != 1 or not all(name.split("/")):
        expected = f"{SCHEME}ORG/NAME[@REVISION]"
        raise RequestError("this is no name of a model on the hub", expected=expected, found=source)
    return name, revision or None
