"""Failures of the hub in our words, and patience where it asks for some."""

from __future__ import annotations

import errno
import os
import re
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any, TypeVar

from emonet.errors import EmonetError, RequestError

TIMEOUT = 10.0  # seconds
_TRIES = 5
_LONGEST = 300.0  # seconds that are waited at once
_BUSY = (429, 503)
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOENT)
_LOGIN = "hf auth login, or export HF_TOKEN=...; is the name right?"
# The hub's library and what it uses; Xet's errors are plain RuntimeErrors, raised in there.
_CLIENTS = ("huggingface_hub", "httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "hf_xet")
_Answer = TypeVar("_Answer")
Say = Callable[[str], object]


class AwayError(EmonetError):
    """The hub does not answer, or not now."""


def patiently(ask: Callable[[], _Answer], say: Say) -> _Answer:
    """What the hub answers; where it is busy, it is asked again after as long as its `Retry-After` says.

    Args:
        ask: may be called several times.
        say: told of each wait.
    """
    for tried in range(1, _TRIES):
        try:
            return ask()
        except Exception as error:  # the hub's library changes its errors
            wait = _wait(error, tried)
            if wait is None or wait > _LONGEST:
                raise
            say(f"the hub is busy (HTTP {status_of(error)}); asked again in {wait:g} s")
            time.sleep(wait)
    return ask()


def _wait(error: Exception, tried: int) -> float | None:
    """Seconds until it is worth asking again; None where it is not."""
    if status_of(error) not in _BUSY:
        return None
    told = str(_headers(error).get("Retry-After", "")).strip()
    return float(told) if told.replace(".", "", 1).isdecimal() else float(2**tried)


def status_of(error: Exception) -> int:
    """The HTTP status behind an error, 0 without one."""
    response = getattr(error, "response", None)
    return 0 if response is None else int(response.status_code)


def _headers(error: Exception) -> Any:
    return getattr(getattr(error, "response", None), "headers", {})


@contextmanager
def explained(name: str, revision: str | None = None) -> Iterator[None]:
    """Errors of the hub's library as ours; tokens are in none of them.

    Args:
        name: of the repository.
        revision: that was asked for.
    """
    try:
        yield
    except EmonetError:
        raise
    except Exception as error:
        cause = error.__cause__ if isinstance(error, RuntimeError) else None  # of a thread that uploads
        told = cause if isinstance(cause, Exception) else error
        ours = _refused(told, name, revision) or _disk(told) or _away(told, name)
        if ours is None:
            raise  # a fault of ours
        raise ours from error


def _refused(error: Exception, name: str, revision: str | None) -> EmonetError | None:
    """What to say where the hub has answered no."""
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    where, status = _at(name, revision), status_of(error)
    if isinstance(error, HFValidationError):
        return RequestError("this is no name of a model on the hub", expected="ORG/NAME", found=name)
    if isinstance(error, RevisionNotFoundError):
        hint = "a branch, a tag or a commit of it; without a revision it is main"
        return RequestError(f"the model has no revision {revision!r}", where=name, hint=hint)
    if isinstance(error, GatedRepoError):
        return RequestError("the hub gives this only to those whom its owner has admitted", where=where, hint=_LOGIN)
    if isinstance(error, RepositoryNotFoundError):
        what = "there is no such model on the hub, or it is private"
        return RequestError(what, where=where, found=f"HTTP {status}", hint=_LOGIN)
    if status == 401:
        return RequestError("the hub does not accept the token", where=where, found="HTTP 401", hint=_LOGIN)
    if status == 403:
        organisation = name.partition("/")[0]
        hint = f"a token that may write to {organisation}: https://huggingface.co/settings/tokens"
        return RequestError("the hub does not allow this with the token", where=where, found=_first(error), hint=hint)
    if status in (409, 412):
        what = "the repository was changed by somebody else at the same time, and nothing was uploaded"
        return EmonetError(what, where=where, found=_first(error), hint="the same command again")
    if status in (400, 413, 422):
        return RequestError("the hub refuses what was sent", where=where, found=_first(error))
    return None


def _disk(error: Exception) -> EmonetError | None:
    """What to say where the fault is this machine's."""
    from huggingface_hub import constants

    code, where = getattr(error, "errno", None), getattr(error, "filename", None)
    if code is None and (xet := re.search(r"\(os error (\d+)\)", str(error))) is not None:
        code = int(xet[1])
    if code not in _DISK or isinstance(error, ssl.SSLError):  # which numbers its own from 1, too
        return None
    what = "a file cannot be read or written here"
    return EmonetError(what, where=where or constants.HF_HUB_CACHE, found=os.strerror(code))


def _away(error: Exception, name: str) -> EmonetError | None:
    """What to say where the hub does not answer, or not to the end."""
    from huggingface_hub import constants

    if status_of(error) == 429:
        told = _headers(error).get("Retry-After")
        hint = f"wait {told} s" if told else "wait some minutes"
        return AwayError("the hub takes no more requests for now", where=name, found="HTTP 429", hint=hint)
    if isinstance(error, OSError) and "Consistency check failed" in str(error):
        hint = "the same command again: whole files are kept"
        return AwayError("the hub sent only a part of a file", where=name, found=_first(error), hint=hint)
    if isinstance(error, OSError) or _of_a_client(error):
        hint = "try again; is there a network?"
        return AwayError("the hub does not answer", where=constants.ENDPOINT, found=_first(error), hint=hint)
    return None


def _of_a_client(error: Exception) -> bool:
    """Whether an error is of the hub's library, or a RuntimeError that was raised in there."""
    modules = [type(error).__module__]
    if isinstance(error, RuntimeError):
        modules += [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)][-1:]
    return any(module.partition(".")[0] in _CLIENTS for module in modules)


def _at(name: str, revision: str | None) -> str:
    return name if revision is None else f"{name}@{revision}"


def _first(error: Exception) -> str:
    """What the hub says itself, or the first line of an error; without the token."""
    from huggingface_hub import get_token

    told = (getattr(error, "server_message", None) or str(error)).strip().splitlines()
    text, token = (told[0] if told else type(error).__name__), get_token()
    return text.replace(token, "***") if token else text
