"""The verbs `serve` and `demo`: the HTTP server with a model, and its page; for this machine unless told otherwise."""

from __future__ import annotations

import logging
import os
import sys
import webbrowser
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from emonet.schema import Schema
from experiments.core import console, tell_version

if TYPE_CHECKING:
    from experiments.arguments import DemoArguments, ServeArguments


class ServeResult(Schema):
    """What was served."""

    address: str
    """Where it listened."""
    model: str
    """As it was asked for."""
    source: str
    """The version, or folder, that served last."""


class Ready(Protocol):
    """Says that the server answers."""

    def __call__(self, address: str, *, asks_for_token: bool) -> None:
        """Say where."""


def run(arguments: ServeArguments) -> ServeResult:
    """Serve until Ctrl-C or another signal.

    Raises:
        RequestError: if the port is taken, there is no such model, or a setting cannot be used.
        EmonetError: if the registry cannot be used, or the server stops by itself.
    """
    return _served(arguments, _say_ready)


def demo(arguments: DemoArguments) -> ServeResult:
    """Serve, with the page open in the default browser.

    Raises:
        RequestError: if the port is taken, there is no such model, or a setting cannot be used.
        EmonetError: if the registry cannot be used, or the server stops by itself.
    """

    def ready(address: str, *, asks_for_token: bool) -> None:  # noqa: ARG001  # the page asks
        page = f"{address}/"
        console.say(f"the page is {page}; Ctrl-C stops it")
        if arguments.browser and not opened_in_browser(page):
            console.say("  no browser could be opened here: open that address in one")

    return _served(arguments, ready)


def opened_in_browser(address: str) -> bool:
    """Open a page in the browser that this desktop has; false where there is none, also not one for terminals."""
    if sys.platform.startswith("linux") and not {"DISPLAY", "WAYLAND_DISPLAY", "BROWSER"} & set(os.environ):
        return False
    try:
        return webbrowser.open(address)
    except webbrowser.Error:
        return False


def _served(arguments: ServeArguments, ready: Ready) -> ServeResult:
    from emonet.serving import EmotionServer

    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.WARNING)
    console.say(f"{console.name(arguments.model)} is loaded; this takes some seconds")
    server = EmotionServer(arguments)
    tell_version(arguments.model, arguments.runs)
    with suppress(KeyboardInterrupt), server:
        ready(server.address, asks_for_token=arguments.token_file is not None)
        server.wait()
    return ServeResult(address=server.address, model=arguments.model, source=server.service.model.current.source)


def _say_ready(address: str, *, asks_for_token: bool) -> None:
    console.say(f"ready on {address}, a page for browsers, too; Ctrl-C stops it. In another terminal:")
    token = "-H 'Authorization: Bearer TOKEN' " if asks_for_token else ""
    console.console.print(f"  curl {token}-F file=@interview.wav {address}/v1/score", markup=False)
