"""The cells of one row of a manifest, by field or target; what is wrong with them becomes a problem with its line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_args

from emonet.clips import SPLITS, AudioCell, AudioRange, Split
from emonet.corpora.manifest.columns import WEIGHT
from emonet.errors import brief
from emonet.tables import Problems, as_cell_text, as_name, as_number, as_seconds, is_missing

_NAMES = frozenset({"id", "speaker", "label"})
SPLIT_NAMES: Mapping[str, Split] = {
    "train": "train",
    "validation": "validation",
    "test": "test",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "training": "train",
    "eval": "test",
}
Limits = Mapping[str, tuple[float, float]]
"""Target id -> its lowest and highest score."""


_number = lru_cache(maxsize=1 << 16)(as_number)  # of texts: raters' scores are few different ones


def holds_audio(cells: Mapping[str, Any]) -> bool:
    """Whether a row holds its recording, as data sets do that others wrote: their further columns are no mistakes."""
    values = (value.get("bytes") if isinstance(value, dict) else value for value in cells.values())
    return any(isinstance(value, AudioRange | AudioCell) for value in values)


@dataclass(frozen=True, slots=True)
class Cells:
    """One row.

    Args:
        place: that problems name, e.g. `line 3`.
        cells: field, target or `weight.` and a target -> value.
        problems: where problems go.
    """

    place: str
    cells: Mapping[str, Any]
    problems: Problems

    def complain(self, problem: str, *cause: str) -> None:
        """Note a problem of this row; those of one cause are told together."""
        self.problems.add(self.place, problem, cause)

    def text(self, name: str, *, required: bool = False) -> str:
        """A cell as text, "" where it is missing; numbers count as text, since ids and speakers often are."""
        value = self.cells.get(name)
        if is_missing(value):
            if required:
                self.complain(
                    f"{name} is {'missing' if name not in self.cells else f'empty ({value!r})'}", name, "empty"
                )
            return ""
        text = as_name(value) if name in _NAMES else as_cell_text(value)
        if text is None:
            self.complain(f"{name} is {brief(value)}, which is not text", name, "text")
            return ""
        return text

    def audio(self) -> tuple[str, bytes | AudioRange | AudioCell | None]:
        """The path of the recording, and its bytes, or where they are, if they are no file of this path."""
        value = self.cells.get("audio")
        if isinstance(value, AudioRange | AudioCell):
            return "", value
        if isinstance(value, dict) and {"bytes", "path"} & set(value):
            path, content = value.get("path"), value.get("bytes")
        elif isinstance(value, bytes | bytearray):
            path, content = None, value
        else:
            return self.text("audio", required=True), None
        if isinstance(content, AudioCell):
            return as_cell_text(path or "") or "", content
        if not isinstance(content, bytes | bytearray | None) or not isinstance(path, str | None):
            self.complain(f"audio is {brief(value)}, which is neither a path nor encoded audio", "audio", "text")
            return "", None
        if content is None and is_missing(path):
            self.complain(f"audio is empty ({brief(value)})", "audio", "empty")
            return "", None
        return as_cell_text(path or "") or "", None if content is None else bytes(content)

    def number(self, name: str) -> float | None:
        """A cell as a finite number; None where it is missing."""
        value = self.cells.get(name)
        number = as_number(value)
        if number is None and not is_missing(value):
            self.complain(f"{name} is {brief(value)}, which is not a finite number", name, "number")
        return number

    def seconds(self, name: str) -> float | None:
        """A cell as seconds, however they are written; None where it is missing."""
        value = self.cells.get(name)
        if is_missing(value):
            return None
        seconds = as_seconds(value)
        if seconds is None:
            self.complain(
                f"{name} is {brief(value)}, which is not a finite number of seconds or a time", name, "number"
            )
        elif seconds < 0:
            self.complain(f"{name} is {seconds:g} s, before the audio begins", name, "before")
        return seconds

    def span(self) -> tuple[float | None, float | None]:
        """Where the clip starts and ends in its recording, in seconds."""
        start, end = self.seconds("start"), self.seconds("end")
        if start is not None and end is not None and start >= end:
            self.complain(f"start {start:g} s is not before end {end:g} s", "start", "order")
        return start, end

    def split(self) -> Split:
        """The row's split; `train` where there is no such column, to be replaced later."""
        name = self.text("split", required="split" in self.cells)
        for split in get_args(Split):
            if name == split:
                return split  # type: ignore[no-any-return]
        if name:
            meant: str = SPLIT_NAMES.get(name.casefold(), name.casefold())
            asked = f"; did you mean {meant}?" if meant in SPLITS else ""
            self.complain(f"split {brief(name)} is none of {', '.join(SPLITS)}{asked}", "split", meant)
        return "train"

    def scores(self, limits: Limits) -> dict[str, float]:
        """Target -> score, of those that somebody gave; in the order of the columns."""
        scores = {}
        for name, value in self.cells.items():
            if (limit := limits.get(name)) is None:
                continue
            score = _number(value) if type(value) is str else as_number(value)
            if score is None:
                self.number(name)  # missing, or a problem
            elif limit[0] <= score <= limit[1]:
                scores[name] = score
            else:
                self.complain(f"{name} is {score:g}; expected {limit[0]:g} to {limit[1]:g}", name, "range")
        return scores

    def weight(self, name: str) -> float | None:
        """A cell as a weight; None where it is missing."""
        number = self.number(name)
        if number is not None and number < 0:
            self.complain(f"{name} is {number:g}; weights are 0 or more", name, "weight")
        return number

    def weights(self) -> dict[str, float]:
        """Target -> weight of its score, where there is one."""
        found = {name.removeprefix(WEIGHT): self.weight(name) for name in self.cells if name.startswith(WEIGHT)}
        return {target: weight for target, weight in found.items() if weight is not None}
