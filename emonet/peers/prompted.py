"""Prompts for language models that hear, in versioned files, and scores out of the JSON that they write."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, final

from emonet.errors import RequestError
from emonet.names import as_text
from emonet.targets import TargetSpec

LATEST = "intensity-1"
_PLACE = "{targets}"


@final
@dataclass(frozen=True)
class Prompt:
    """What a model is asked.

    Args:
        version: name of the shipped file, or path of one's own.
        text: with `{targets}` where the targets are listed.
    """

    version: str
    text: str

    def about(self, targets: TargetSpec) -> str:
        """The whole prompt: a line for each target."""
        lines = (f"- {one.id} ({one.low:g} to {one.high:g}): {one.meaning}" for one in targets)
        return self.text.replace(_PLACE, "\n".join(lines))


def open_prompt(name_or_file: str) -> Prompt:
    """The prompt of this version, or of one's own text file.

    Raises:
        RequestError: if there is none, or it has no place for the targets.
    """
    shipped = resources.files("emonet.peers").joinpath("prompts", f"{name_or_file}.txt")
    try:
        own = name_or_file.endswith(".txt")
        text = Path(name_or_file).expanduser().read_text("utf-8") if own else shipped.read_text("utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise RequestError(
            "there is no such prompt",
            where=as_text(name_or_file),
            expected=f"{LATEST}, or a file that ends with .txt",
            found=error,
        ) from error
    if _PLACE not in text:
        raise RequestError("the prompt has no place for the targets", where=as_text(name_or_file), expected=_PLACE)
    return Prompt(name_or_file, text)


def read_scores(text: str, targets: TargetSpec) -> list[float] | str:
    """Scores in the order of the targets out of what a model wrote, or why there are none.

    The JSON object may stand between other words or in a code block. Each target has a number on its scale.
    """
    row = next(_objects(text), None)
    if row is None:
        return f"no JSON object in the answer: {brief_text(text)}"
    given: dict[str, Any] = {}
    for name, value in row.items():
        if name in targets:
            if targets[name].id in given:
                return f"two scores of {targets[name].id}"
            given[targets[name].id] = value
    missing = [name for name in targets.ids if given.get(name) is None]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        return f"no score of {missing[0]}{more}"
    found = []
    for target in targets:
        value = given[target.id]
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return f"the score of {target.id} is no number: {brief_text(json.dumps(value))}"
        if not target.low <= value <= target.high:
            return f"the score of {target.id} is out of range: {value:g}, expected {target.low:g} to {target.high:g}"
        found.append(float(value))
    return found


def brief_text(text: str) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return f"{line[:120]}..." if len(line) > 120 else line or "nothing"


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """JSON objects in a text: all of it, of a code block, and what begins with a brace."""
    blocks = re.findall(r"```(?:json)?\s*(.*?)```", text, re.DOTALL)
    for candidate in (text, *blocks, text[text.find("{") :]):
        try:
            row, _ = json.JSONDecoder().raw_decode(candidate.strip())
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            yield row
