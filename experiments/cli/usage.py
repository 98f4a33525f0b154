"""Usage, or help: what the command line says about itself, and which verb is meant."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import get_args

from rich.markup import escape

from emonet.errors import RequestError
from experiments.core import Experiment

HELP = frozenset({"-h", "--help"})


def split_verb(arguments: Sequence[str], verbs: Mapping[str, str]) -> tuple[str, list[str]]:
    """The verb, of one word or of two as in `store verify`, and what follows it.

    Args:
        arguments: without the program's name.
        verbs: each with a line about it.

    Returns:
        For the first word of two alone, as in `emonet store`, that word.

    Raises:
        RequestError: if there is no such verb; names the nearest.
    """
    for words in (2, 1):
        name = " ".join(arguments[:words])
        if name in verbs:
            return name, list(arguments[words:])
    first = arguments[0]
    members = [name for name in verbs if name.startswith(f"{first} ")]
    if members and (len(arguments) == 1 or arguments[1].startswith("-")):
        return first, list(arguments[1:])
    raise _unknown(" ".join(arguments[:2]) if members else first, members or list(verbs))


def usage(verbs: Mapping[str, str], first: str = "") -> str:
    """All verbs, or those that begin with the word `first`, with rich markup."""
    shown = {name: line for name, line in verbs.items() if name.startswith(f"{first} " if first else "")}
    rows = "\n".join(f"  [bold]{name:<22}[/]{escape(line)}" for name, line in shown.items())
    verb = f"emonet {first} VERB" if first else "emonet VERB"
    flags = "..." if first else "[--experiment NAME|FILE] [--section.field value ...]"
    return (
        f"usage: {verb} {escape(f'{flags} [--json] [--debug]')}\n\n{rows}\n\n"
        f"`{verb} --help` lists a verb's flags; docs/ and README.md explain."
    )


def with_section(arguments: Sequence[str], section: str) -> list[str]:
    """Arguments with flags such as `--batch-size` in full, as `--extraction.batch-size`.

    Args:
        arguments: of a stage.
        section: of the experiment, whose fields need no prefix.
    """
    own = _fields(section)

    def in_full(argument: str) -> str:
        name, dot, _ = argument[2:].partition("=")[0].replace("-", "_").partition(".")
        short = name in own or name.removeprefix("no_") in own
        if not argument.startswith("--") or not short or (dot and name in Experiment.model_fields):
            return argument
        return f"--{section}.{argument[2:]}"

    return [in_full(argument) for argument in arguments]


def with_truth_values(arguments: Sequence[str]) -> list[str]:
    """Arguments with `True` or `False` behind flags that may have other values, too, as a plain switch has none.

    `--heads.no-standardise` becomes `--heads.standardise False`, and `--heads.standardise` alone gets a `True`.
    """
    several = {
        f"--{section}.{name}".replace("_", "-")
        for section, field in Experiment.model_fields.items()
        for name, inner in getattr(field.annotation, "model_fields", {}).items()
        if bool in get_args(inner.annotation)
    }
    found: list[str] = []
    for argument, after in zip(arguments, [*arguments[1:], "--"], strict=False):
        flag = argument.replace("_", "-")
        if (switched := flag.replace(".no-", ".", 1)) in several and switched != flag:
            found += [switched, "False"]
        elif flag in several and after.startswith("--"):
            found += [flag, "True"]
        else:
            found.append(argument)
    return found


def shorter(section: str) -> str:
    """The line about `with_section` in a stage's help."""
    flag = "--trials 8" if "trials" in _fields(section) else "--batch-size 8"
    return f"Fields of `{section}` need no prefix: {flag} means --{section}.{flag[2:]}."


def _fields(section: str) -> frozenset[str]:
    return frozenset(getattr(Experiment.model_fields[section].annotation, "model_fields", ()))


def _unknown(name: str, verbs: list[str]) -> RequestError:
    """Verbs are found by either word: `verify` is near to `store verify`."""
    spellings = {verb.split()[-1]: verb for verb in verbs} | {verb.split()[0]: verb.split()[0] for verb in verbs}
    near = difflib.get_close_matches(name.rpartition(" ")[-1], list(spellings), n=1)
    return RequestError(
        f"there is no verb {name!r}",
        expected=", ".join(verbs),
        hint=f"emonet {spellings[near[0]] if near else '--help'}",
    )
