"""Flags out of pydantic models: the only module that imports tyro."""

from __future__ import annotations

import io
import sys
from collections.abc import Collection, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import TypeVar, get_args, get_origin

import tyro
from pydantic import BaseModel, ValidationError
from tyro.conf import Positional
from tyro.conf import arg as spelled
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructTypeInfo

from emonet.names import on_one_line
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
                args=_gathered(words, _of_several(arguments)),
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
        for word in words if "Unrecognized" in told.getvalue() else ():
            if word.startswith("-") and Path(word).exists():
                sys.stderr.write(f"there is a file of this name; to name it: ./{on_one_line(word)}\n")
        raise


def _of_several(model: type[BaseModel], before: str = "--") -> frozenset[str]:
    """Flags that take several values, `--only a b`, by their full names."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        flag = f"{before}{name}".replace("_", "-")
        if any(get_origin(kind) is tuple for kind in kinds):
            found.add(flag)
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found |= _of_several(kind, f"{flag}.")
    return frozenset(found)


def _gathered(words: Sequence[str], several: Collection[str]) -> list[str]:
    """The words with `--only a --only b` as `--only a b`: argparse would forget the first of them."""
    given: dict[str, list[str]] = {}
    others: list[list[str]] = []
    values: list[str] | None = None
    for word in words:
        flag, equals, value = word.partition("=")
        flag = flag.replace("_", "-")
        if flag in several:
            known = flag in given
            values = given.setdefault(flag, [flag])
            if not known:
                others.append(values)
            values += [value] if equals else []
        elif word.startswith("--"):
            others.append([word])
            values = None
        elif values is not None:
            values.append(word)
        else:
            others.append([word])
    return [word for part in others for word in part]
