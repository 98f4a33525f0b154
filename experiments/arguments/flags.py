"""Flags out of pydantic models: the only module that imports tyro."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr
from typing import TypeVar, get_origin

import tyro
from pydantic import BaseModel, ValidationError
from tyro.conf import Positional
from tyro.conf import arg as spelled
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructTypeInfo

from experiments.core import refuse_flags

__all__ = ["Positional", "parse", "spelled"]
# Positional: a value without a flag; spelled: how a flag is called where its field is called otherwise.

M = TypeVar("M", bound=BaseModel)
_OWN_RULES = ConstructorRegistry()


@_OWN_RULES.struct_rule
def _without_flags(field: StructTypeInfo) -> StructConstructorSpec | None:
    """A mapping, such as a sweep's space, stays as it is in the file."""
    return StructConstructorSpec(lambda: field.default, ()) if get_origin(field.type) is dict else None


def parse(
    arguments: type[M], command: str, words: list[str], *, default: M | None = None, description: str | None = None
) -> M:
    """What a command line says; values that a model refuses are told in our own words.

    Args:
        arguments: the model of the flags.
        command: what was typed before them, e.g. `emonet heads`.
        words: the flags.
        default: what holds where there is no flag; by default the model's own.
        description: above the flags in the help; by default the model's docstring.

    Raises:
        RequestError: if the model refuses a value.
        SystemExit: after help was shown (0), or if the flags cannot be read (2).
    """
    told = io.StringIO()
    try:
        with redirect_stderr(told):  # help goes to stdout
            model: M = tyro.cli(
                arguments,
                prog=command,
                args=words,
                description=description,
                default=tyro.MISSING if default is None else default,
                config=(tyro.conf.FlagCreatePairsOff,),
                registry=_OWN_RULES,
            )
            return model
    except (SystemExit, ValidationError) as stopped:
        error: BaseException | None = stopped
        while error is not None and not isinstance(error, ValidationError):
            error = error.__context__
        if error is not None:
            refuse_flags(error, command)
        sys.stderr.write(told.getvalue())
        raise
