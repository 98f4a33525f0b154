"""Arguments of the verb that serves a model; the docstrings are the help."""

from __future__ import annotations

from pydantic import Field

from emonet.serving import ServerSettings
from experiments.arguments.verbs import Common


class ServeArguments(ServerSettings, Common):
    """Serve a model over HTTP, on 127.0.0.1 unless told otherwise: scores, timelines, captions, streams, and a page."""


class DemoArguments(ServeArguments):
    """Serve the champion, and open its page in the browser: a recording is dropped, chosen or spoken."""

    port: int = Field(0, ge=0, le=65535)
    """Port to listen on; 0 is any free one."""
    browser: bool = True
    """Open the page in the browser; --no-browser prints its address only."""
