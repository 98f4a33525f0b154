"""Predictions that somebody else has made, out of a table: a row a clip, a column a target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from emonet.clips import Clip
from emonet.errors import RequestError, brief, raise_collected, shortened
from emonet.evaluation import Scored
from emonet.names import as_text
from emonet.runtime import Progress, expanded, ignore
from emonet.tables import as_name, as_number, is_missing, read_rows
from emonet.targets import PUBLISHED, TargetSpec

REFUSAL = "refusal"  # the column of reasons


@final
class Predictions:
    """A table of predictions as a scorer; a clip without a row, or with a score missing, is refused.

    Args:
        file: `.csv`, `.jsonl` or `.parquet`, with the column `id`, a column for each target (by id, name or alias) on
            its own scale, and, if there is one, the column `refusal` of reasons.
        targets: that it may score; others' columns are left out. None is everything that there is a published expert
            for.

    Raises:
        RequestError: if it cannot be read, has no such columns, or ids twice or scores that are no numbers.
    """

    def __init__(self, file: str, targets: TargetSpec | None) -> None:
        self._path = expanded(file)
        rows, problems = _read(self._path)
        if not rows:
            raise_collected("the predictions cannot be used", problems, where=as_text(self._path))
        names = list(dict.fromkeys(name for row in rows.values() for name in row))
        known = PUBLISHED if targets is None else targets
        columns = [(known[name].id, name) for name in names if name in known]
        if "id" not in names or not columns:
            raise RequestError(
                "the table is none of predictions",
                where=as_text(self._path),
                expected="the column id, and a column for each target",
                found=shortened(names) or "no rows",
            )
        self.target_spec = known.subset([target for target, _ in columns])
        problems += [f"{n} columns stand for {one}" for one, n in Counter(one for one, _ in columns).items() if n > 1]
        places = dict(columns)
        self._rows: dict[str, list[float]] = {}
        self._reasons: dict[str, str] = {}
        for place, row in rows.items():
            if is_missing(row.get("id")) or (one := as_name(row["id"])) is None:
                problems.append(f"{place}: there is no id")
                continue
            if one in self._rows:
                problems.append(f"{place}: {one} occurs a second time")
            wrong = [name for name, where in places.items() if _score(row.get(where)) is None]
            problems += [f"{place}: {one}: {name} is no number: {brief(row[places[name]])}" for name in wrong]
            self._rows[one] = [_score(row.get(places[name])) or 0.0 for name in self.target_spec.ids]
            if not is_missing(why := row.get(REFUSAL)):
                self._reasons[one] = as_text(str(why).strip())
        raise_collected("the predictions cannot be used", problems, where=as_text(self._path))

    def score(self, clips: Sequence[Clip], *, progress: Progress = ignore) -> Scored:
        """The predictions of these clips; those that the table has no row of are refused."""
        progress(0, len(clips))
        progress(len(clips), len(clips))
        return Scored.of(clips, self.target_spec, [self._found(clip.id) for clip in clips])

    def _found(self, name: str) -> list[float] | str:
        if name in self._reasons:
            return self._reasons[name]
        row = self._rows.get(name)
        if row is None:
            return f"{self._path.name} has no row of it, but of {shortened(list(self._rows), 2) or 'none'}"
        missing = [one for one, score in zip(self.target_spec.ids, row, strict=True) if np.isnan(score)]
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        return f"{self._path.name} has no score of {missing[0]}{more}" if missing else row


def _score(value: Any) -> float | None:
    """NaN where there is none; None where it is no number."""
    return float("nan") if is_missing(value) else as_number(value)


def _read(path: Path) -> tuple[dict[str, Mapping[str, Any]], list[str]]:
    """Place -> row, and what is wrong with rows that cannot be read."""
    rows: dict[str, Mapping[str, Any]] = {}
    problems = []
    try:
        for row in read_rows(path):
            if row.damage is None:
                rows[row.place] = row.cells
            else:
                problems.append(f"{row.place}: {row.damage}")
    except RequestError as error:
        raise RequestError(
            "the predictions cannot be read",
            where=as_text(path),
            expected="a CSV, JSONL or Parquet file",
            found=error.what,
        ) from error
    return rows, problems
