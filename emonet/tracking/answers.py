"""Answers that did not come: what MLflow, SQLAlchemy and requests raise, as one message."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from urllib.parse import urlsplit

from emonet.errors import EmonetError
from emonet.tracking.database import hidden

BRIEF: Mapping[str, str] = MappingProxyType(
    {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
)
"""MLflow alone tries for four minutes before it says that a server is away."""
_ENVIRONMENT = threading.RLock()


@contextmanager
def answering(uri: str, what: str = "the registry cannot be used", hint: str | None = None) -> Iterator[None]:
    """Let no error of a library's pass: within the block all of them become an `EmonetError`.

    Args:
        uri: of the server or database.
        what: went wrong, in one sentence.
        hint: what to do; by default what fits the URI.

    Raises:
        EmonetError: if anything but an `EmonetError` is raised.
    """
    try:
        yield
    except EmonetError:
        raise
    except Exception as error:
        raise EmonetError(what, where=hidden(uri), found=_found(uri, error), hint=hint or _hint(uri)) from error


def is_server(uri: str) -> bool:
    """Whether it is spoken to over HTTP, and not a database that this process opens itself."""
    return uri.startswith(("http://", "https://"))


@contextmanager
def brief(uri: str) -> Iterator[None]:
    """Within the block a server is asked once, for seconds; what the environment sets holds."""
    if not is_server(uri):
        yield
        return
    with _ENVIRONMENT:
        added = {name: value for name, value in BRIEF.items() if name not in os.environ}
        os.environ.update(added)
        try:
            yield
        finally:
            for name in added:
                os.environ.pop(name, None)


def reason(error: BaseException) -> str:
    """The first line of what went wrong at the bottom: libraries wrap it in their own words, URLs and objects."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        inner = getattr(error, "reason", None)  # urllib3 and requests keep it here
        below = inner if isinstance(inner, BaseException) else error.__cause__ or _nested(error) or _wrapped(error)
        if below is None:
            break
        error = below
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return text or type(error).__name__


def _nested(error: BaseException) -> BaseException | None:
    """An error that was handed to another one as its message."""
    return next((one for one in error.args if isinstance(one, BaseException)), None)


def _wrapped(error: BaseException) -> BaseException | None:
    """An error whose text another one repeats."""
    inner = error.__context__
    return inner if inner is not None and str(inner) and str(inner) in str(error) else None


def _found(uri: str, error: BaseException) -> str:
    proxy = _proxy(uri)
    return reason(error) + (f" (by way of the proxy {proxy})" if proxy else "")


def _hint(uri: str) -> str:
    if not is_server(uri):
        return "check MLFLOW_TRACKING_URI, or name another folder with --runs"
    if _proxy(uri):
        return f"NO_PROXY={urlsplit(uri).hostname} goes past the proxy; or correct the proxy or MLFLOW_TRACKING_URI"
    return "start the server, or correct MLFLOW_TRACKING_URI; unset it to use runs/mlflow.db"


def _proxy(uri: str) -> str | None:
    """The proxy between this machine and a server, as the environment names it."""
    if not is_server(uri):
        return None
    from requests.utils import get_environ_proxies, select_proxy

    found = select_proxy(uri, get_environ_proxies(uri))
    return None if found is None else found.rpartition("@")[2] if "@" in found else found
