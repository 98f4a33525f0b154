"""Targets, or what is scored: the single source of the number of experts, ranges, metric keys, labels and columns."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emonet.errors import RequestError

RESERVED = frozenset(
    {"audio", "id", "speaker", "split", "language", "caption", "start", "end", "weight", "label"}
    | {"file", "path", "filename", "file_name", "filepath", "file_path", "wav", "wav_path", "recording", "wav_file"}
    | {"audio_path", "audio_file", "audio_filename", "audio_filepath"}
    | {
        "seconds",
        "total",
        "speech_frames",
        "failed",
        "sound_digest",
        "sound_notices",
        "notices",
        "error",
        "unfamiliarity",
    }
    | {"mean", "targets"}
)
"""What columns and figures beside the targets are called, in manifests, stores, tables of scores and logs."""

EMOTION, CLASS = "emotion", "class"  # groups of targets that are ranked among each other


@dataclass(frozen=True, slots=True)
class Target:
    """One score that a voice can be given.

    Args:
        id: stable identifier, used in columns, metric keys and file names.
        name: published name, used as a label.
        low: the score that means "not at all".
        high: the strongest score.
        meaning: what the scale measures, in one sentence.
        terms: words that describe it (EmoNet-Voice, appendix A.1), lower case.
        checkpoint: the name in published files `model_<checkpoint>_best.pth`.
        aliases: further spellings.
        group: what it is one of: those of the groups `emotion` and `class` are ranked by their
            strength, all others stand apart.
    """

    id: str
    name: str
    low: float
    high: float
    meaning: str
    terms: tuple[str, ...] = ()
    checkpoint: str = ""
    aliases: tuple[str, ...] = ()
    group: str = ""

    @property
    def start(self) -> float:
        """The score that one would guess first: of an emotion the lowest, of anything else the middle."""
        return self.low if self.group == EMOTION else (self.low + self.high) / 2

    def share(self, score: float) -> float:
        """Where a score lies on the scale: 0 at `low`, 1 at `high`."""
        return (score - self.low) / (self.high - self.low)


def spelling(name: str) -> str:
    """What is the same in all spellings of a name: its letters and digits, in lower case."""
    return "".join(c for c in name.casefold().replace("&", "and") if c.isalnum())


@dataclass(frozen=True)
class TargetSpec:
    """An ordered set of targets; scores are arrays whose last axis follows this order."""

    targets: tuple[Target, ...]

    def __len__(self) -> int:
        return len(self.targets)

    def __iter__(self) -> Iterator[Target]:
        return iter(self.targets)

    def __getitem__(self, name: str) -> Target:
        return self.targets[self.index(name)]

    def __contains__(self, name: object) -> bool:
        """Whether a target has that id, published name or alias."""
        return isinstance(name, str) and spelling(name) in self._positions

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The identifiers, in order."""
        return tuple(target.id for target in self.targets)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The published names, in order."""
        return tuple(target.name for target in self.targets)

    @cached_property
    def low(self) -> NDArray[np.float32]:
        """Lowest scores, shape (targets,)."""
        return np.array([target.low for target in self.targets], np.float32)

    @cached_property
    def high(self) -> NDArray[np.float32]:
        """Highest scores, shape (targets,)."""
        return np.array([target.high for target in self.targets], np.float32)

    @cached_property
    def ranked(self) -> tuple[str, ...]:
        """Ids of the emotions, or classes, whose scores can be ranked among each other, in order."""
        return tuple(target.id for target in self.targets if target.group in (EMOTION, CLASS))

    @cached_property
    def apart(self) -> tuple[str, ...]:
        """Ids of what is no emotion, in order: it is shown after the emotions, and not ranked among them."""
        return tuple(target.id for target in self.targets if target.group not in (EMOTION, CLASS))

    @property
    def scale(self) -> tuple[float, float]:
        """The lowest and the highest score that any of the targets can have."""
        return float(self.low.min()), float(self.high.max())

    @property
    def common(self) -> bool:
        """Whether all targets have the same scale."""
        return len({(target.low, target.high) for target in self.targets}) <= 1

    @cached_property
    def _positions(self) -> dict[str, int]:
        positions: dict[str, int] = {}
        for position, target in enumerate(self.targets):
            for name in (target.id, target.name, target.checkpoint, *target.aliases):
                if key := spelling(name):  # "" is the checkpoint of most targets, and no name
                    positions.setdefault(key, position)
        return positions

    def index(self, name: str) -> int:
        """Position of a target by id, published name or alias.

        Raises:
            RequestError: if no target has that name; it suggests the nearest ids.
        """
        position = self._positions.get(spelling(name))
        if position is None:
            near = difflib.get_close_matches(spelling(name), self._positions, n=3, cutoff=0.5)
            ids = list(dict.fromkeys(self.ids[self._positions[match]] for match in near)) or list(self.ids[:3])
            raise RequestError(
                f"there is no target called {name!r}",
                expected=f"one of the {len(self)} ids, such as {', '.join(ids)}",
                found=repr(name),
                hint="emonet targets",
            )
        return position

    def subset(self, names: Iterable[str]) -> TargetSpec:
        """The named targets, in this spec's order.

        Raises:
            RequestError: if a name is unknown.
        """
        wanted = {self.index(name) for name in names}
        return TargetSpec(tuple(target for position, target in enumerate(self.targets) if position in wanted))

    def also_in(self, other: TargetSpec) -> tuple[str, ...]:
        """Ids of the targets that `other` has under the same id and on the same scale, in this spec's order."""
        scales = {target.id: (target.low, target.high) for target in other}
        return tuple(target.id for target in self.targets if scales.get(target.id) == (target.low, target.high))

    @property
    def summary(self) -> str:
        """How many there are, and the first of them with their scales, for a message."""
        first = [f"{target.id} ({target.low:g} to {target.high:g})" for target in self.targets[:4]]
        return f"{len(self)}: {', '.join(first)}{', ...' if len(self) > len(first) else ''}"

    def shares(self, scores: Mapping[str, float]) -> dict[str, float]:
        """Target id -> where its score lies on its scale (0 to 1), of those that somebody gave.

        Raises:
            RequestError: if a name is unknown, or a score out of range.
        """
        shares = {}
        for name, score in scores.items():
            self.validate(name, score)
            if not np.isnan(score):
                shares[self[name].id] = self[name].share(score)
        return shares

    def validate(self, name: str, score: float) -> None:
        """Check one score; NaN means that nobody gave it and is fine.

        Raises:
            RequestError: if the score is outside the target's range.
        """
        target = self[name]
        if not (np.isnan(score) or target.low <= score <= target.high):
            raise RequestError(
                f"a score of {target.id} is out of range",
                expected=f"{target.low:g} to {target.high:g}",
                found=f"{score:g}",
            )

    def to_json(self) -> list[dict[str, object]]:
        """A JSON-able form, for a store's attributes and a model's metadata."""
        return [_row(target) for target in self.targets]

    @classmethod
    def from_json(cls, rows: Iterable[dict[str, object]]) -> TargetSpec:
        """The inverse of `to_json`; what it leaves out of published targets on their published scale comes back."""
        return cls(tuple(_published(row) or _own(row) for row in rows))


_BESIDE = ("terms", "checkpoint", "aliases", "group")


def _row(target: Target) -> dict[str, object]:
    """A target's fields; of a published one only those that older stores hold, whose digests are made of them."""
    row = {name: getattr(target, name) for name in ("id", "name", "low", "high", "meaning")}
    published = _published(row)
    if published == target:
        return row
    beside = {name: value for name in _BESIDE if (value := getattr(target, name))}
    if published is not None:
        beside.setdefault("group", target.group)  # says that it is not the published one
    return row | {name: list(value) if isinstance(value, tuple) else value for name, value in beside.items()}


def _own(row: Mapping[str, object]) -> Target:
    return Target(**{name: tuple(value) if isinstance(value, list) else value for name, value in row.items()})  # type: ignore[arg-type]


def _published(row: Mapping[str, object]) -> Target | None:
    if set(row) & set(_BESIDE):
        return None
    target = next((target for target in PUBLISHED if target.id == row["id"]), None)
    return target if target is not None and (target.low, target.high) == (row["low"], row["high"]) else None


def _rows(name: str) -> Any:
    return json.loads(resources.files("emonet.targets").joinpath(name).read_text("utf-8"))


def _read_taxonomy() -> TargetSpec:
    return TargetSpec(
        tuple(
            Target(
                id=row["id"],
                name=row["name"],
                low=0.0,
                high=4.0,
                meaning=f"how strongly the voice expresses {row['name']}: 0 not at all, 4 extremely",
                terms=tuple(row["terms"]),
                checkpoint=row["checkpoint"],
                aliases=tuple(row["aliases"]),
                group=EMOTION,
            )
            for row in _rows("taxonomy.json")
        )
    )


def _read_attributes(key: str, group: str) -> TargetSpec:
    rows = _rows("attributes.json")[key]
    return TargetSpec(tuple(replace(_own(row), group=group) for row in rows))


EMOTIONS = _read_taxonomy()
"""The 40 emotions of EmoNet-Voice (arXiv 2506.09827, appendix A.1), each from 0 to 4."""

ATTRIBUTES = _read_attributes("attributes", "attribute")
"""15 further attributes of a voice that published experts score, each on its own scale."""

QUALITY = _read_attributes("quality", "quality")
"""Four scores of a recording's quality that published experts give, each from 1 to 5."""

PUBLISHED = TargetSpec((*EMOTIONS, *ATTRIBUTES, *QUALITY))
"""Everything that there is a published expert for."""
