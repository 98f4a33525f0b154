"""Ratings: who gave which clip which score, one row a judgement; read from long manifests and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64

from emonet.errors import RequestError, brief, raise_collected, shortened
from emonet.tables import as_name, as_number, is_missing, read_rows
from emonet.targets import EMOTIONS, TargetSpec

COLUMNS = ("clip", "rater", "target", "score")
_TEN = 10.0  # the highest score of the scale on which benchmarks compare: 0 is not at all


@dataclass(frozen=True)
class Ratings:
    """What raters heard in clips.

    Args:
        table: columns `clip` (id), `rater`, `target` (id) and `score` (in the target's range), one row a judgement, in
            the order in which they were given.
        spec: what was rated, and on which scales.
        name: where they are from, for messages and tables.
        clips: ids of the clips that have to be rated; () where only the table says which there are.
        levels: all scores that could be given, also those that nobody gave; () where any within range could.
        remarks: what their user should know, found while they were read.

    Raises:
        RequestError: if a column is missing, a score is out of range or none of the levels, a target is unknown, a
            rater rated a clip twice, or a clip has no raters; all problems in one message.
    """

    table: pd.DataFrame
    spec: TargetSpec
    name: str = "ratings"
    clips: tuple[str, ...] = ()
    levels: tuple[float, ...] = ()
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        missing = [column for column in COLUMNS if column not in self.table.columns]
        if missing:
            raise RequestError(
                "ratings lack a column",
                where=self.name,
                expected=", ".join(COLUMNS),
                found=", ".join(map(str, self.table.columns)),
            )
        problems = [*self._unknown(), *self._unheard(), *self._wrong_scores(), *self._twice()]
        if not len(self.table):
            problems = ["there is not a single rating"]
        raise_collected(f"the ratings of {self.name!r} cannot be used", problems)

    @classmethod
    def of(cls, rows: Iterable[tuple[str, str, str, float]], spec: TargetSpec, **fields: Any) -> Ratings:
        """Put a table together out of (clip, rater, target, score).

        Args:
            rows: in the order in which judgements were given.
            spec: what was rated.
            fields: further arguments of `Ratings`.

        Raises:
            RequestError: as `Ratings` does.
        """
        table = pd.DataFrame(list(rows), columns=list(COLUMNS)).astype({"score": np.float64})
        return cls(table, spec, **fields)

    def _unknown(self) -> list[str]:
        return [
            f"there is no target {target!r}; there are {shortened(self.spec.ids, 4)}"
            for target in self.table["target"].unique()
            if target not in self.spec.ids
        ]

    def _unheard(self) -> list[str]:
        rated = set(self.table["clip"])
        return [f"clip {clip!r} has no raters" for clip in self.clips if clip not in rated]

    def _wrong_scores(self) -> list[str]:
        known = self.table[self.table["target"].isin(self.spec.ids)]
        low, high = (known["target"].map({t.id: getattr(t, end) for t in self.spec}) for end in ("low", "high"))
        wrong = ~((known["score"] >= low) & (known["score"] <= high))  # NaN is neither
        if self.levels:
            wrong |= ~known["score"].isin(self.levels)
        problems = []
        for clip, rater, target, score in known.loc[wrong, list(COLUMNS)].itertuples(index=False):
            one = self.spec[target]
            expected = " or ".join(f"{level:g}" for level in self.levels) or f"{one.low:g} to {one.high:g}"
            problems.append(f"{rater!r} gives clip {clip!r} {score:g} for {target}; {expected} is expected")
        return problems

    def _twice(self) -> list[str]:
        key = ["clip", "rater", "target"]
        again = self.table[self.table.duplicated(key)].drop_duplicates(key)
        return [
            f"{rater!r} rated clip {clip!r} for {target} twice"
            for clip, rater, target in again[key].itertuples(index=False)
        ]

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """Ids of the targets that somebody rated, in the spec's order."""
        rated = set(self.table["target"])
        return tuple(target for target in self.spec.ids if target in rated)

    @cached_property
    def emotions(self) -> tuple[str, ...]:
        """Those of the targets that are emotions; all of them where the spec has no emotions."""
        found = tuple(target for target in self.targets if target in self.spec.ranked)
        return found or self.targets

    @cached_property
    def clip_ids(self) -> tuple[str, ...]:
        """Ids of the clips with a rating, in the order of the table."""
        return tuple(self.table["clip"].unique())

    @cached_property
    def raters(self) -> tuple[str, ...]:
        """Who rated, in the order of their names."""
        return tuple(sorted(self.table["rater"].unique()))

    @cached_property
    def scale(self) -> tuple[float, ...]:
        """The levels, or the scores that somebody gave, from the lowest to the highest."""
        return self.levels or tuple(sorted(float(score) for score in self.table["score"].unique()))

    @cached_property
    def items(self) -> pd.DataFrame:
        """One row for each clip and target that it was rated for; scores in the order in which they were given.

        Its index is (clip, target); columns are 0, 1, ..., NaN where there are no more ratings.
        """
        place = self.table.groupby(["clip", "target"], sort=False).cumcount()
        return self.table.assign(place=place).set_index(["clip", "target", "place"])["score"].unstack()  # noqa: PD010

    @cached_property
    def present(self) -> Bool[np.ndarray, "items places"]:
        """Which of the `items`' ratings say that it is there: those above the target's lowest score."""
        low = self.items.index.get_level_values("target").map({target.id: target.low for target in self.spec})
        found: Bool[np.ndarray, "items places"] = self.items.to_numpy(np.float64) > np.array(low)[:, None]
        return found  # NaN is not above

    def matrix(self, targets: Sequence[str] | None = None) -> Float64[np.ndarray, "items raters"]:
        """A column for each rater, NaN where they did not rate; a row for each clip and target it was rated for.

        Args:
            targets: ids; all by default.
        """
        table = self.table if targets is None else self.table[self.table["target"].isin(list(targets))]
        wide = table.set_index(["clip", "target", "rater"])["score"].unstack()  # noqa: PD010 nothing to aggregate
        found: Float64[np.ndarray, "items raters"] = wide.to_numpy(np.float64)
        return found

    def only(self, targets: Sequence[str]) -> Ratings:
        """Ratings of some targets.

        Raises:
            RequestError: if there is no such target, or nobody rated it.
        """
        ids = [self.spec[target].id for target in targets]
        raise_collected(
            f"{self.name!r} has no ratings of what is asked for",
            [f"nobody rated {target}" for target in ids if target not in self.targets],
            hint=f"there are ratings of {shortened(self.targets)}",
        )
        table = self.table[self.table["target"].isin(ids)].reset_index(drop=True)
        return replace(self, table=table, spec=self.spec.subset(ids), clips=())


def on_ten(scores: Float64[np.ndarray, "*any targets"], spec: TargetSpec) -> Float64[np.ndarray, "*any targets"]:
    """Scores on the scale of comparisons, 0 (not at all) to 10: of 0, 1, 2 they are 0, 5, 10, of 0 to 4 times 2.5.

    Args:
        scores: the last axis follows the spec.
        spec: their ranges.
    """
    low, high = spec.low.astype(np.float64), spec.high.astype(np.float64)
    return (scores - low) / (high - low) * _TEN


def read_ratings(path: Path, targets: TargetSpec = EMOTIONS, *, clips: Sequence[str] = ()) -> Ratings:
    """Read a long manifest: a CSV, JSONL or Parquet file with the columns clip, rater, target and score.

    Other columns are passed over, and named in the remarks.

    Args:
        path: of the file.
        targets: what was rated; the file may use ids, published names or aliases.
        clips: ids of the clips that have to be rated.

    Raises:
        RequestError: if it cannot be read, a cell is empty or no number, or the ratings are wrong in what `Ratings`
            checks; all problems of one kind in one message.
    """
    judgements, problems, beside = [], [], set()
    for row in read_rows(path):
        if row.damage is not None:
            problems.append(f"{row.place}: {row.damage}")
            continue
        cells = {name.strip().casefold(): value for name, value in row.cells.items()}
        if missing := [column for column in COLUMNS if column not in cells]:
            raise RequestError(
                "a file of ratings lacks a column",
                where=f"{path}, {row.header or row.place}",
                expected=", ".join(COLUMNS),
                found=shortened(list(row.cells)) if row.cells else "none",
                hint=f"name the column {missing[0]!r}; one row is one judgement",
            )
        beside |= set(cells) - set(COLUMNS)
        try:
            judgements.append(_judgement(cells, targets))
        except ValueError as error:
            problems.append(f"{row.place}: {error}")
    raise_collected("ratings cannot be read", problems, where=path)
    remarks = (f"columns passed over: {', '.join(sorted(beside))}",) if beside else ()
    return Ratings.of(judgements, targets, name=str(path), clips=tuple(clips), remarks=remarks)


def _judgement(cells: Mapping[str, Any], targets: TargetSpec) -> tuple[str, str, str, float]:
    """One row's clip, rater, target and score.

    Raises:
        ValueError: if one of them is not there or means nothing; its message says which.
    """
    names = {}
    for column in ("clip", "rater", "target"):
        name = None if is_missing(cells[column]) else as_name(cells[column])
        if not name:
            why = "a clip without raters" if column == "rater" else f"no {column}"
            raise ValueError(f"{why}; the cell {column!r} is {brief(cells[column])}")
        names[column] = name
    if names["target"] not in targets:
        raise ValueError(f"there is no target called {names['target']!r}; there are {shortened(targets.ids, 4)}")
    score = as_number(cells["score"])
    if score is None:
        raise ValueError(f"the score {brief(cells['score'])} is no number")
    return names["clip"], names["rater"], targets[names["target"]].id, score
