"""Flags out of pydantic models: the only module that imports tyro."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, TypeVar

import tyro
from pydantic import BaseModel, ValidationError
from tyro.conf import Positional
from tyro.conf import arg as spelled

from experiments.core import refuse_flags

__all__ = ["Positional", "parse", "spelled"]
# Positional: a value without a flag; spelled: how a flag is called where its field is called otherwise.

M = TypeVar("M", bound=BaseModel)


def parse(arguments: type[M], command: str, words: list[str], **options: Any) -> M:
    """What a command line says; values that a model refuses are told in our own words.

    Args:
        arguments: the model of the flags.
        command: what was typed before them, e.g. `emonet heads`.
        words: the flags.
        options: `default` and `description`, as in tyro.

    Raises:
        RequestError: if the model refuses a value.
        SystemExit: after help was shown (0), or if the flags cannot be read (2).
    """
    options = {"prog": command, "config": (tyro.conf.FlagCreatePairsOff,), **options}
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        try:
            return _parsed(arguments, words, options)
        except (SystemExit, ValidationError) as stopped:
            error: BaseException | None = stopped
    while error is not None and not isinstance(error, ValidationError):
        error = error.__context__
    if error is not None:
        refuse_flags(error, command)
    return _parsed(arguments, words, options)  # once more, to be heard: help, and flags that it cannot read


def _parsed(arguments: type[M], words: list[str], options: dict[str, Any]) -> M:
    model: M = tyro.cli(arguments, args=words, **options)
    return model
